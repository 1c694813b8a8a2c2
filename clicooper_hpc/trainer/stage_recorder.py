"""What a trainer stores of a stage before it signs its proof: state, messages, times."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from clicooper_hpc.pipeline.runtime import SegmentRuntime
from clicooper_hpc.provenance.tensor_digest import digest_tensors
from clicooper_hpc.runstore.checkpoints import keep_stage_checkpoint
from clicooper_hpc.runstore.safetensors_files import pack_safetensors
from clicooper_hpc.runstore.tables.writer import TableWriter
from clicooper_hpc.training.message_digests import Channel, ChannelRecord
from clicooper_hpc.training.segment_state import (
    TRAINING,
    WEIGHTS,
    check_state_finite,
    export_segment_state,
)

__all__ = ["StageRecorder", "StateRoots"]


@dataclass(frozen=True, slots=True)
class StateRoots:
    """Tensor roots (32 bytes) of weights and of what else training needs."""

    weights: bytes
    training: bytes

    @classmethod
    def of_state(cls, content: bytes) -> StateRoots:
        """Digest a state as `export_segment_state` names its tensors, a safetensors file."""
        return cls(
            digest_tensors(content, prefix=WEIGHTS).value,
            digest_tensors(content, prefix=TRAINING).value,
        )


class StageRecorder:
    """Writes the tables ``messages`` and ``proving`` of one rank, and the states that are kept.

    Parameters
    ----------
    run
        The run folder if states are kept for audits, else None.
    """

    def __init__(
        self, segment: int, runtime: SegmentRuntime, writer: TableWriter, run: Path | None
    ) -> None:
        self._segment = segment
        self._runtime = runtime
        self._writer = writer
        self._run = run
        #: Rows of the table ``messages`` that are there.
        self.messages = 0

    def pack_state(self, step: int) -> bytes:
        """Return the whole state of the segment after ``step`` steps as a safetensors file.

        Raises
        ------
        ClicooperError
            A tensor is not finite: such a state is neither kept nor proved.
        """
        state = export_segment_state(self._runtime)
        check_state_finite(state, step=step)
        return pack_safetensors(state, {})

    def keep_state(self, stage: int, step: int, content: bytes) -> None:
        """Store the state after ``stage``, which ends before ``step``, if states are kept."""
        if self._run is not None:
            keep_stage_checkpoint(
                self._run, stage=stage, segment=self._segment, step=step, content=content
            )

    def append_messages(self, stage: int, records: Mapping[Channel, ChannelRecord]) -> None:
        """Append one row for every message of ``stage``."""
        names = [name for name, record in records.items() for _ in record.digests]
        places = [place for record in records.values() for place in record.places]
        digests = [digest.hex() for record in records.values() for digest in record.digests]
        count = len(names)
        self._writer.extend(
            "messages",
            {
                "message": np.arange(self.messages, self.messages + count),
                "stage": np.full(count, stage, np.int64),
                "channel": np.array(names, "S16"),
                "step": np.array([step for step, _ in places], np.int64),
                "micro_batch": np.array([part for _, part in places], np.int64),
                "digest": np.array(digests, "S64"),
            },
        )
        self.messages += count

    def append_proving_times(self, stage: int, seconds: Mapping[str, float]) -> None:
        """Append what proving ``stage`` took: one row of the table ``proving``."""
        self._writer.append("proving", {"stage": stage, **seconds})

    def seal_stage(self) -> str:
        """Make all rows durable and return the digest (hex) of those since the last call."""
        # What is about to be signed must outlive the node: it is never made again.
        self._writer.sync()
        return self._writer.take_digest().hex
