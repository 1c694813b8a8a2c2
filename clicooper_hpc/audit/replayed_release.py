"""Released rows as input of segment 1 in a replay, and the owner's messages that carried them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from clicooper_hpc.audit.memory_channel import pack_memory_message
from clicooper_hpc.audit.message_trace import Stream, TraceRecorder
from clicooper_hpc.training.batches import average_batch_groups
from clicooper_hpc.training.events import TrainStep
from clicooper_hpc.training.message_digests import message_digest
from clicooper_hpc.training.run_plan import RunPlan
from clicooper_hpc.transport.message_kind import Kind

__all__ = ["ReleasedRows", "replayed_release_digests", "replayed_step_input"]

#: Released rows float32 [n, ...] of the samples with ids int64 [n], in that order.
ReleasedRows = Callable[[NDArray[np.int64]], Tensor]

RELEASES = Stream(0, "forward")


def replayed_step_input(
    event: TrainStep, parts: Sequence[range], rows: ReleasedRows, recorder: TraceRecorder
) -> Callable[[int], Tensor]:
    """Return what gives segment 1 its rows [groups, ...] for each micro-batch of a step.

    If the owner sent them in this step (and trainer 1 did not have them from an earlier epoch), its
    message is recorded too.
    """

    def released(micro_batch: int) -> Tensor:
        part = parts[micro_batch]
        ids = event.batch.ids[part.start : part.stop]
        raw = rows(ids.reshape(-1))
        if event.from_owner:
            header, slot = pack_memory_message(raw, Kind.RELEASE, event.step, micro_batch)
            # Both at once: nothing of a stage lies between the owner's send and the receipt.
            recorder.note_sent(RELEASES, header, slot.raw)
            recorder.note_received(RELEASES)
        # Cloned, as trainer 1 clones its receive buffer: the rows stay the owner's.
        return average_batch_groups(raw.clone(), len(ids))

    return released


def replayed_release_digests(
    plan: RunPlan, steps: Sequence[TrainStep], rows: ReleasedRows
) -> tuple[bytes, ...]:
    """Return the digests (32 bytes each) of the owner's messages in ``steps``, in order.

    Where trainer 1 keeps the released rows, only the stages of the first epoch have such messages:
    compare these with their hand-offs before later stages are replayed with the same ``rows``.
    """
    return tuple(
        message_digest(
            pack_memory_message(
                rows(event.batch.ids[part.start : part.stop].reshape(-1)),
                Kind.RELEASE,
                event.step,
                micro_batch,
            )[1].raw
        )
        for event in steps
        if event.from_owner
        for micro_batch, part in enumerate(plan.planned_micro_batches(len(event.batch.sub_labels)))
    )
