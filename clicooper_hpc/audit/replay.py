"""Train one stage again: every segment in this process, by the very code that trained it.

    segment 1         segment 2         ...        segment N
    (1) lane of step s over channels in memory, one thread each, one running at a time
    (2) update, then whatever follows an update (marks)
    (3) next step; segments are as far apart as the receive slots of the run allow
    (4) after the last step: the state of every segment, and the digest of every message

On the CPU with the same libraries, the same instruction set and the same number of threads the
result is the run's to the bit. On anything else it is close, and only a tolerance can judge it; see
`clicooper_hpc.audit.verdict`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import Tensor

from clicooper_hpc.audit.inputs import ReleasedRows, step_input
from clicooper_hpc.audit.lockstep import CooperativeThreads
from clicooper_hpc.audit.memory_channel import MemoryChannel
from clicooper_hpc.audit.trace import Recorder, Stream, Trace
from clicooper_hpc.pipeline.runtime import Edges, SegmentRuntime
from clicooper_hpc.training.events import TrainStep
from clicooper_hpc.training.run_plan import RunPlan
from clicooper_hpc.training.segment_state import export_segment_state, import_segment_state
from clicooper_hpc.transport.receiver import Receiver
from clicooper_hpc.transport.sender import Sender

__all__ = ["StageReplay", "replay_stage"]


@dataclass(frozen=True, slots=True)
class StageReplay:
    """A stage as it should have gone.

    Attributes
    ----------
    states
        State of each segment after the last step; names as in
        `clicooper_hpc.training.segment_state`.
    trace
        Every message between the segments, and from the owner to segment 1.
    losses
        Loss of each segment in each step; None where a segment computes none.
    """

    states: tuple[dict[str, Tensor], ...]
    trace: Trace
    losses: tuple[tuple[float | None, ...], ...]


def replay_stage(
    runtimes: Sequence[SegmentRuntime],
    starts: Sequence[Mapping[str, Tensor]],
    course: RunPlan,
    steps: Sequence[TrainStep],
    rows: ReleasedRows,
) -> StageReplay:
    """Run ``steps`` on all segments.

    Parameters
    ----------
    runtimes
        Segments 1 .. N in order, built as for the run. Their channels are replaced;
        ``after_update`` is called as in the run.
    starts
        State of each segment before the first step; names as in
        `clicooper_hpc.training.segment_state`.
    course
        Schedule, micro-batches and learning rates of the run.
    steps
        The training steps of the stage, in order.
    rows
        The released rows. Of steps whose rows came from the owner, the messages are recorded too,
        so that rows other than those that were sent show.

    Raises
    ------
    ClicooperError
        The segments do not fit together, or wait for each other; any other exception of a segment
        is raised as it is. Nothing of a stage that failed should be used.
    RunFolderError
        A start does not fit its segment.
    """
    if not len(runtimes) == len(starts) == course.segments:
        raise ValueError(
            f"{len(runtimes)} runtimes and {len(starts)} starts for {course.segments} segments"
        )
    for number, (runtime, start) in enumerate(zip(runtimes, starts, strict=True), start=1):
        import_segment_state(runtime, start, where=f"state of segment {number} before the stage")
    baton = CooperativeThreads([f"segment {number}" for number in range(1, len(runtimes) + 1)])
    recorder = Recorder()
    _connect(runtimes, course, baton, recorder)
    losses: list[list[float | None]] = [[] for _ in runtimes]

    def lane(segment: int) -> Callable[[], None]:
        def body() -> None:
            for event in steps:
                loss = _train(runtimes[segment], course, segment, event, rows, recorder)
                losses[segment].append(loss)

        return body

    baton.run([lane(segment) for segment in range(len(runtimes))])
    return StageReplay(
        tuple(export_segment_state(runtime) for runtime in runtimes),
        recorder.trace(),
        tuple(tuple(values) for values in losses),
    )


def _connect(
    runtimes: Sequence[SegmentRuntime],
    course: RunPlan,
    baton: CooperativeThreads,
    recorder: Recorder,
) -> None:
    slots = course.planned_slots()
    backprop = course.coupling == "backprop"

    def channel(boundary: int, *, forward: bool) -> MemoryChannel | None:
        if not 0 < boundary < len(runtimes) or not (forward or backprop):
            return None
        stream = Stream(boundary, "forward" if forward else "backward")
        return MemoryChannel(stream, slots=slots, baton=baton, recorder=recorder)

    forward = [channel(boundary, forward=True) for boundary in range(len(runtimes) + 1)]
    backward = [channel(boundary, forward=False) for boundary in range(len(runtimes) + 1)]
    for segment, runtime in enumerate(runtimes):
        # A MemoryChannel does for a segment all that a Sender and a Receiver do.
        runtime.edges = Edges(
            activation_in=cast("Receiver | None", forward[segment]),
            activation_out=cast("Sender | None", forward[segment + 1]),
            gradient_in=cast("Receiver | None", backward[segment + 1]),
            gradient_out=cast("Sender | None", backward[segment]),
        )


def _train(
    runtime: SegmentRuntime,
    course: RunPlan,
    segment: int,
    event: TrainStep,
    rows: ReleasedRows,
    recorder: Recorder,
) -> float | None:
    """Run one step of one segment, as a trainer does."""
    parts = course.planned_micro_batches(len(event.batch.sub_labels))
    labels = event.batch.sub_labels.astype(np.int64)
    device = runtime.segment.device
    report = runtime.train_step(
        event.step,
        course.planned_lane(segment, len(parts)),
        released=None if segment else step_input(event, parts, rows, recorder),
        targets=[torch.from_numpy(labels[part.start : part.stop]).to(device) for part in parts],
        batch_rows=len(labels),
        learning_rate=course.planned_rate(event.step),
    )
    return report.loss if report.scored else None
