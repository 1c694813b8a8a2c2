"""`replay_stage`: train a stage again, every segment in this process, by the code that trained it.

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

import numpy as np
import torch
from torch import Tensor

from clicooper_hpc.audit.cooperative_threads import CooperativeThreads
from clicooper_hpc.audit.memory_channel import MemoryChannel
from clicooper_hpc.audit.message_trace import MessageTrace, Stream, TraceRecorder
from clicooper_hpc.audit.replayed_release import ReleasedRows, replayed_step_input
from clicooper_hpc.pipeline.runtime import Edges, SegmentRuntime
from clicooper_hpc.training.events import TrainStep
from clicooper_hpc.training.run_plan import RunPlan
from clicooper_hpc.training.segment_state import export_segment_state, import_segment_state

__all__ = ["StageReplay", "replay_stage"]


@dataclass(frozen=True, slots=True)
class StageReplay:
    """What training a stage gives when it is done as the job says.

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
    trace: MessageTrace
    losses: tuple[tuple[float | None, ...], ...]


def replay_stage(
    runtimes: Sequence[SegmentRuntime],
    starts: Sequence[Mapping[str, Tensor]],
    plan: RunPlan,
    steps: Sequence[TrainStep],
    rows: ReleasedRows,
    on_step: Callable[[], None] = lambda: None,
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
    plan
        Schedule, micro-batches and learning rates of the run.
    steps
        The training steps of the stage, in order.
    rows
        The released rows. Of steps whose rows came from the owner, the messages are recorded too,
        so that rows other than those that were sent show.
    on_step
        Called after each step of the last segment.

    Raises
    ------
    ClicooperError
        The segments do not fit together, or wait for each other; any other exception of a segment
        is raised as it is. Nothing of a stage that failed should be used.
    RunFolderError
        A start does not fit its segment.
    """
    if not len(runtimes) == len(starts) == plan.segments:
        raise ValueError(
            f"{len(runtimes)} runtimes and {len(starts)} starts for {plan.segments} segments"
        )
    for number, (runtime, start) in enumerate(zip(runtimes, starts, strict=True), start=1):
        # All of them before the first step: a state that does not fit ends the replay at once.
        import_segment_state(runtime, start, where=f"state of segment {number} before the stage")
    threads = CooperativeThreads([f"segment {number}" for number in range(1, len(runtimes) + 1)])
    recorder = TraceRecorder()
    # Their channels of MPI, if they had any, are replaced.
    _connect_replay(runtimes, plan, threads, recorder)
    losses: list[list[float | None]] = [[] for _ in runtimes]

    def segment_body(segment: int) -> Callable[[], None]:
        def body() -> None:
            for event in steps:
                loss = _replay_step(runtimes[segment], plan, segment, event, rows, recorder)
                losses[segment].append(loss)
                if segment == len(runtimes) - 1:
                    on_step()

        return body

    threads.run([segment_body(segment) for segment in range(len(runtimes))])
    return StageReplay(
        tuple(export_segment_state(runtime) for runtime in runtimes),
        recorder.message_trace(),
        tuple(tuple(values) for values in losses),
    )


def _connect_replay(
    runtimes: Sequence[SegmentRuntime],
    plan: RunPlan,
    threads: CooperativeThreads,
    recorder: TraceRecorder,
) -> None:
    # As many as a run's receivers have: more would let segments run ahead as they never could.
    slots = plan.planned_slots()
    backprop = plan.coupling == "backprop"

    def channel(boundary: int, *, forward: bool) -> MemoryChannel | None:
        # Boundary 0 is the owner's: its rows come by call, not over a channel.
        if not 0 < boundary < len(runtimes) or not (forward or backprop):
            return None
        stream = Stream(boundary, "forward" if forward else "backward")
        return MemoryChannel(stream, slots=slots, threads=threads, recorder=recorder)

    forward = [channel(boundary, forward=True) for boundary in range(len(runtimes) + 1)]
    backward = [channel(boundary, forward=False) for boundary in range(len(runtimes) + 1)]
    for segment, runtime in enumerate(runtimes):
        runtime.edges = Edges(
            activation_in=forward[segment],
            activation_out=forward[segment + 1],
            gradient_in=backward[segment + 1],
            gradient_out=backward[segment],
        )


def _replay_step(
    runtime: SegmentRuntime,
    plan: RunPlan,
    segment: int,
    event: TrainStep,
    rows: ReleasedRows,
    recorder: TraceRecorder,
) -> float | None:
    """Run one step of one segment, as a trainer does."""
    parts = plan.planned_micro_batches(len(event.batch.sub_labels))
    # torch's losses take class numbers as int64 only.
    labels = event.batch.sub_labels.astype(np.int64)
    device = runtime.segment.device
    report = runtime.train_step(
        event.step,
        plan.planned_lane(segment, len(parts)),
        # Only segment 1 takes released rows; the others take what their neighbour sends.
        released=None if segment else replayed_step_input(event, parts, rows, recorder),
        targets=[torch.from_numpy(labels[part.start : part.stop]).to(device) for part in parts],
        batch_rows=len(labels),
        learning_rate=plan.planned_rate(event.step),
    )
    return report.loss if report.scored else None
