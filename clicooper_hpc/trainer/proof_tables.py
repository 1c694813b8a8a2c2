"""The tables that a trainer writes about its proofs: `messages` and `proving`."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from clicooper_hpc.runstore.buffer import TableWriter
from clicooper_hpc.training.message_digests import Channel, Record

__all__ = ["ProofTables"]


class ProofTables:
    """Appends the rows of one rank; both tables are sealed with every proof."""

    def __init__(self, writer: TableWriter) -> None:
        self._writer = writer
        #: Rows of the table ``messages`` that are there.
        self.messages = 0

    def append_messages(self, stage: int, records: Mapping[Channel, Record]) -> None:
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
        return self._writer.take_seal().hex
