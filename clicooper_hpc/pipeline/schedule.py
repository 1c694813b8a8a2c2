"""A pipeline schedule is data: for every segment the operations of one step, in order.

Index letters, here and in the simulator::

    p  number of segments         i  segment index, 0 .. p-1 (segment i + 1, held by rank i + 1)
    m  number of micro-batches    k  micro-batch index, 0 .. m-1

A *lane* is what one segment does in one step: ``F3`` is the forward of micro-batch 3, ``B3`` its
backward. The ``1f1b`` schedule for p = 3, m = 5, with a backward as long as a forward::

    lane 0  F0 F1 F2 .. .. B0 F3 B1 F4 B2 .. B3 .. B4
            ~~~~~(1)       ~~~~~~~~(2)~~~~~~~~ ~~(3)~~
    lane 1     F0 F1 .. B0 F2 B1 F3 B2 F4 B3 .. B4
    lane 2        F0 B0 F1 B1 F2 B2 F3 B3 F4 B4

    (1) warm-up: lane i runs ahead by p - 1 - i forwards, so that the lane after it has work;
    (2) steady state: one forward, one backward, in turn;
    (3) drain: the forwards are used up, the remaining backwards follow.

Every schedule runs the backwards of a lane in the order 0, 1, 2, ...: gradients are added up in the
order in which one process would add them, so that the sums agree to the bit.

Sources: GPipe (Huang et al., NeurIPS 2019, section 2.2), 1F1B without staleness (Narayanan et al.,
"Efficient large-scale language model training on GPU clusters", SC 2021, section 2.2).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from clicooper_hpc.errors import UsageError

__all__ = [
    "SCHEDULES",
    "Action",
    "Coupling",
    "Op",
    "Schedule",
    "ScheduleError",
    "check_schedule",
    "check_schedule_depth",
    "forward_only_schedule",
    "gpipe_schedule",
    "make_schedule",
    "one_f_one_b_schedule",
    "one_way_schedule",
    "schedule_peaks",
]

Coupling = Literal["backprop", "one-way"]
"""Whether gradients cross the cuts between segments, or each segment has a local loss."""


class ScheduleError(ValueError):
    """A schedule is malformed or deadlocks; the message names the segments and operations."""


class Action(StrEnum):
    """What a segment does with a micro-batch."""

    FORWARD = "F"
    BACKWARD = "B"


@dataclass(frozen=True, slots=True, order=True)
class Op:
    """One operation of a lane; prints as ``F0`` or ``B3``, sorts by letter, then number."""

    action: Action
    micro_batch: int

    def __str__(self) -> str:
        return f"{self.action}{self.micro_batch}"


Schedule = tuple[tuple[Op, ...], ...]
"""One lane per segment; index 0 is segment 1."""


def gpipe_schedule(segments: int, micro_batches: int) -> Schedule:
    """Run all forwards, then all backwards: simple, but all m activations stay alive."""
    _require_counts(segments, micro_batches)
    lane = (*_forwards(0, micro_batches), *_backwards(0, micro_batches))
    return (lane,) * segments


def one_f_one_b_schedule(segments: int, micro_batches: int) -> Schedule:
    """Alternate forward and backward: the bubble of GPipe, at most p - i activations in lane i."""
    _require_counts(segments, micro_batches)
    return tuple(
        # At most m: a short last batch may have fewer micro-batches than the pipeline is deep.
        _one_f_one_b_lane(min(segments - 1 - index, micro_batches), micro_batches)
        for index in range(segments)
    )


def one_way_schedule(segments: int, micro_batches: int) -> Schedule:
    """Run the backward of each micro-batch right after its forward; no lane waits for a later one.

    For one-way coupling, where a backward needs no message from the next segment.
    """
    _require_counts(segments, micro_batches)
    return (_one_f_one_b_lane(0, micro_batches),) * segments


def forward_only_schedule(segments: int, micro_batches: int) -> Schedule:
    """Run the forwards alone: evaluation and prediction."""
    _require_counts(segments, micro_batches)
    return (_forwards(0, micro_batches),) * segments


SCHEDULES: dict[str, Callable[[int, int], Schedule]] = {
    "gpipe": gpipe_schedule,
    "1f1b": one_f_one_b_schedule,
    "one-way": one_way_schedule,
    "forward-only": forward_only_schedule,
}
"""Generators by the name they have in a job file."""


def make_schedule(name: str, segments: int, micro_batches: int) -> Schedule:
    """Return the schedule called ``name``.

    Parameters
    ----------
    name
        A key of `SCHEDULES`.
    segments, micro_batches
        p and m, both at least 1. m < p is fine here (a short last batch has fewer micro-batches);
        a job is held to `check_schedule_depth`.

    Raises
    ------
    UsageError
        The name is not known.
    """
    generator = SCHEDULES.get(name)
    if generator is None:
        raise UsageError(
            f"there is no pipeline schedule {name!r}", remedy=f"Known are {', '.join(SCHEDULES)}."
        )
    return generator(segments, micro_batches)


def check_schedule_depth(segments: int, micro_batches: int) -> None:
    """Refuse a job whose batches have fewer micro-batches than the pipeline has segments.

    Such a pipeline never has work for all segments at once.

    Raises
    ------
    UsageError
        ``micro_batches < segments``; the message names both numbers.
    """
    # It would run, but part of the pipeline would never have work: a mistake of the job.
    if micro_batches < segments:
        raise UsageError(
            f"{micro_batches} micro-batches cannot fill a pipeline of {segments} segments",
            remedy=f"Use at least {segments} micro-batches, or fewer trainers.",
        )


def check_schedule(schedule: Schedule) -> int:
    """Return the number of micro-batches of a well-formed schedule.

    Well-formed: all lanes have each forward 0 .. m-1 once, and either each backward once, after
    its forward, or no backward at all.

    Raises
    ------
    ScheduleError
        Names the first segment and operation that break the rule.
    """
    if not schedule or not schedule[0]:
        raise ScheduleError("a schedule needs a segment and an operation")
    micro_batches = sum(op.action is Action.FORWARD for op in schedule[0])
    expected = {*_forwards(0, micro_batches)}
    if any(op.action is Action.BACKWARD for op in schedule[0]):
        expected.update(_backwards(0, micro_batches))
    for segment, lane in enumerate(schedule, start=1):
        seen: set[Op] = set()
        for op in lane:
            if op in seen:
                raise ScheduleError(f"segment {segment} has {op} twice")
            if op not in expected:
                raise ScheduleError(f"segment {segment} has {op}, which does not belong there")
            if op.action is Action.BACKWARD and Op(Action.FORWARD, op.micro_batch) not in seen:
                raise ScheduleError(f"segment {segment} has {op} before its forward")
            seen.add(op)
        missing = sorted(expected - seen)
        if missing:
            raise ScheduleError(f"segment {segment} lacks {missing[0]}")
    return micro_batches


def schedule_peaks(schedule: Schedule) -> tuple[int, ...]:
    """Return the most micro-batches whose activations each lane holds at once.

    A micro-batch is held from its forward to the end of its backward; without backwards, for the
    forward alone. This follows from the order of a lane, whatever anything costs.
    """
    return tuple(_lane_peak(lane) for lane in schedule)


def _lane_peak(lane: Sequence[Op]) -> int:
    held = peak = 0
    for op in lane:
        held += 1 if op.action is Action.FORWARD else -1
        peak = max(peak, held)
    # Evaluation drops an activation as soon as it has been sent on.
    trained = any(op.action is Action.BACKWARD for op in lane)
    return peak if trained else min(peak, 1)


def _one_f_one_b_lane(ahead: int, micro_batches: int) -> tuple[Op, ...]:
    lane = list(_forwards(0, ahead))  # (1)
    for done, op in enumerate(_forwards(ahead, micro_batches)):  # (2)
        lane += (op, Op(Action.BACKWARD, done))
    lane += _backwards(micro_batches - ahead, micro_batches)  # (3)
    return tuple(lane)


def _forwards(first: int, stop: int) -> tuple[Op, ...]:
    return tuple(Op(Action.FORWARD, index) for index in range(first, stop))


def _backwards(first: int, stop: int) -> tuple[Op, ...]:
    return tuple(Op(Action.BACKWARD, index) for index in range(first, stop))


def _require_counts(segments: int, micro_batches: int) -> None:
    if segments < 1 or micro_batches < 1:
        raise ValueError(
            f"a schedule needs at least one segment and one micro-batch, "
            f"got {segments} and {micro_batches}"
        )
