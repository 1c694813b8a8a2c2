"""Discrete-event simulation of a schedule: whether it ends, how long it takes, what it holds.

What is simulated (index letters as in `clicooper_hpc.pipeline.schedule`)::

    owner          lane 0                lane 1                lane p-1
      |  edge 0      |  edge 1             |        edge p-1     |
      +--releases--->+----activations----->+----- ... ---------->+
                     +<---gradients--------+<---- ... -----------+    (backprop only)

    (1) A lane runs its operations in the order of the schedule, one at a time.
    (2) F(i, k) needs the message of micro-batch k on edge i. B(i, k) needs its own F(i, k) and,
        coupled by backprop, the gradient from lane i + 1. The owner sends the releases 0, 1, 2 ...
        as fast as it may.
    (3) A message needs a free receive slot. While all are in use the sender *blocks*: it starts no
        other operation. The slot is then held until the receiver is done with the micro-batch: a
        gradient's until the backward has run; an activation's until the result of the backward
        (of the forward, in a schedule without backwards) has been sent on.
    (4) Messages of one edge and direction follow each other and overlap with computing.

A schedule that ends here cannot deadlock with as many real receive buffers, because (3) is stricter
than any transport that queues what it sends. Whether it ends depends on order and slots alone, not
on costs: each lane is sequential, and each channel has one sender and one receiver.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from clicooper_hpc.pipeline.schedule import (
    Action,
    Coupling,
    Op,
    Schedule,
    ScheduleError,
    check_schedule,
    schedule_peaks,
)

__all__ = [
    "ScheduleError",
    "Simulation",
    "TimedOp",
    "TimedSend",
    "simulate",
    "simulate_required_slots",
]


@dataclass(frozen=True, slots=True)
class TimedOp:
    """An operation with its start and end."""

    op: Op
    start: float
    end: float


@dataclass(frozen=True, slots=True)
class TimedSend:
    """A message with the start and end of its transfer."""

    micro_batch: int
    start: float
    end: float


@dataclass(frozen=True, slots=True)
class Simulation:
    """One simulated step. Times are in the unit of the costs and begin at 0.

    Attributes
    ----------
    lanes
        Operations of each segment, in order.
    owner
        The owner's sends on edge 0, in order.
    makespan
        End of the last operation.
    busy
        Time each lane computes.
    peak_activations
        Most micro-batches whose activations each lane holds at once.
    forward_messages, backward_messages
        Messages on each edge, away from the owner and towards it. Edge 0 joins the owner and
        segment 1, edge i joins segments i and i + 1.
    """

    lanes: tuple[tuple[TimedOp, ...], ...]
    owner: tuple[TimedSend, ...]
    makespan: float
    busy: tuple[float, ...]
    peak_activations: tuple[int, ...]
    forward_messages: tuple[int, ...]
    backward_messages: tuple[int, ...]

    @property
    def bubbles(self) -> tuple[float, ...]:
        """Share of the makespan in which each lane does not compute."""
        return tuple(_idle_share(busy, self.makespan) for busy in self.busy)

    @property
    def bubble(self) -> float:
        """Share of all lanes' time in which they do not compute."""
        return _idle_share(math.fsum(self.busy), len(self.busy) * self.makespan)


def simulate(
    schedule: Schedule,
    *,
    coupling: Coupling,
    forward_cost: Sequence[float],
    backward_cost: Sequence[float],
    message_cost: float = 0.0,
    slots: int | None = None,
) -> Simulation:
    """Run ``schedule`` under the rules of this module.

    Parameters
    ----------
    schedule
        Lanes of all segments.
    coupling
        With ``"one-way"`` no gradient is sent and a backward is the segment's local one.
    forward_cost, backward_cost
        Time of one micro-batch on each segment, >= 0, in any unit.
    message_cost
        Time one message occupies its edge, >= 0, in the same unit.
    slots
        Receive slots per edge and direction, >= 1; None for as many as there are messages.

    Raises
    ------
    ScheduleError
        The schedule is malformed, or it deadlocks: each stuck segment is named with the operation
        it is at and what it waits for.
    """
    micro_batches = check_schedule(schedule)
    segments = len(schedule)
    _check_numbers(segments, forward_cost, backward_cost, message_cost, slots)
    trained = any(op.action is Action.BACKWARD for op in schedule[0])

    down = [_Channel(message_cost, slots) for _ in range(segments)]
    # up[i] brings gradients into lane i; the last lane takes its own from the loss.
    up: list[_Channel | None] = [None] * segments
    if coupling == "backprop":
        up[:-1] = [_Channel(message_cost, slots) for _ in range(segments - 1)]
    lanes = [
        _Lane(
            segment=index + 1,
            program=program,
            costs={Action.FORWARD: forward_cost[index], Action.BACKWARD: backward_cost[index]},
            last_action=Action.BACKWARD if trained else Action.FORWARD,
            activations_in=down[index],
            activations_out=down[index + 1] if index + 1 < segments else None,
            gradients_in=up[index],
            gradients_out=up[index - 1] if index else None,  # the owner gets no gradient
        )
        for index, program in enumerate(schedule)
    ]

    moved = True
    while moved:
        moved = False
        # The owner first: it waits for nobody but free slots.
        while down[0].sent < micro_batches and down[0].send(down[0].sent, 0.0) is not None:
            moved = True
        for lane in lanes:
            while lane.advance():
                moved = True
    # Nothing moved in a whole round, and only moves can free others: what waits now waits for ever.
    waits = [wait for lane in lanes if (wait := lane.waits_for())]
    if waits:
        raise ScheduleError(f"the schedule deadlocks: {'; '.join(waits)}")

    return Simulation(
        lanes=tuple(tuple(lane.done) for lane in lanes),
        owner=tuple(down[0].transfers),
        makespan=max(lane.done[-1].end for lane in lanes),
        busy=tuple(math.fsum(lane.costs[op.action] for op in lane.program) for lane in lanes),
        peak_activations=schedule_peaks(schedule),
        forward_messages=tuple(channel.sent for channel in down),
        backward_messages=(0, *(channel.sent if channel else 0 for channel in up[:-1])),
    )


def simulate_required_slots(schedule: Schedule, coupling: Coupling) -> int:
    """Return the smallest number of receive slots per edge that cannot deadlock.

    It is never below the most activations a lane holds, and exactly that for every schedule made
    by `clicooper_hpc.pipeline.schedule`. One slot more lets the next message arrive during a
    computation.

    Raises
    ------
    ScheduleError
        The schedule deadlocks with any number of slots.
    """
    micro_batches = check_schedule(schedule)
    even = [1.0] * len(schedule)
    # Fewer than that would block a lane at its own peak.
    for slots in range(max(schedule_peaks(schedule)), micro_batches):
        try:
            simulate(
                schedule, coupling=coupling, forward_cost=even, backward_cost=even, slots=slots
            )
        except ScheduleError:
            continue
        return slots
    # m slots never fill up: what deadlocks with them deadlocks always.
    simulate(schedule, coupling=coupling, forward_cost=even, backward_cost=even)
    return micro_batches


@dataclass(slots=True)
class _Channel:
    """Messages of one edge in one direction."""

    cost: float
    slots: int | None
    transfers: list[TimedSend] = field(default_factory=list)
    arrivals: dict[int, float] = field(default_factory=dict)
    freed: list[float] = field(default_factory=list)  # times, which never decrease

    @property
    def sent(self) -> int:
        return len(self.transfers)

    def send(self, micro_batch: int, ready: float) -> float | None:
        """Take a message; return when its sender may go on, None while no slot is free (3)."""
        if self.slots is not None and self.sent >= self.slots:
            # Message n takes the slot that was the (n - slots)-th to become free.
            reused = self.sent - self.slots
            if reused >= len(self.freed):
                return None
            ready = max(ready, self.freed[reused])
        start = max(ready, self.transfers[-1].end) if self.transfers else ready  # (4)
        self.transfers.append(TimedSend(micro_batch, start, start + self.cost))
        self.arrivals[micro_batch] = start + self.cost
        return ready


@dataclass(slots=True)
class _Lane:
    """One segment at work."""

    segment: int
    program: tuple[Op, ...]
    costs: dict[Action, float]
    last_action: Action
    activations_in: _Channel
    activations_out: _Channel | None
    gradients_in: _Channel | None
    gradients_out: _Channel | None
    done: list[TimedOp] = field(default_factory=list)
    clock: float = 0.0
    blocked: bool = False  # the message of done[-1] has no slot yet

    def advance(self) -> bool:
        """Finish one send or one operation; False while there is nothing this lane can do."""
        if self.blocked:
            return self._send(self.done[-1].op)
        if len(self.done) == len(self.program):
            return False
        op = self.program[len(self.done)]  # (1)
        source = self._source(op)
        if source is not None:  # (2)
            if op.micro_batch not in source.arrivals:
                return False
            self.clock = max(self.clock, source.arrivals[op.micro_batch])
        end = self.clock + self.costs[op.action]
        self.done.append(TimedOp(op, self.clock, end))
        self.clock = end
        if op.action is Action.BACKWARD and self.gradients_in is not None:
            self.gradients_in.freed.append(end)  # (3)
        self._send(op)
        return True

    def waits_for(self) -> str | None:
        """Return what a lane that cannot advance waits for, None if it is done."""
        if self.blocked:
            op = self.done[-1].op
            peer = self.segment + (1 if op.action is Action.FORWARD else -1)
            return f"segment {self.segment} at {op} waits for a free receive slot of segment {peer}"
        if len(self.done) == len(self.program):
            return None
        op = self.program[len(self.done)]
        if op.action is Action.FORWARD:
            peer_name = f"segment {self.segment - 1}" if self.segment > 1 else "the owner"
            return f"segment {self.segment} at {op} waits for the activation from {peer_name}"
        return (
            f"segment {self.segment} at {op} waits for the gradient from segment {self.segment + 1}"
        )

    def _source(self, op: Op) -> _Channel | None:
        return self.activations_in if op.action is Action.FORWARD else self.gradients_in

    def _send(self, op: Op) -> bool:
        sink = self.activations_out if op.action is Action.FORWARD else self.gradients_out
        accepted = self.clock if sink is None else sink.send(op.micro_batch, self.clock)
        self.blocked = accepted is None
        if accepted is None:
            return False
        self.clock = accepted
        if op.action is self.last_action:
            self.activations_in.freed.append(accepted)  # (3)
        return True


def _idle_share(busy: float, whole: float) -> float:
    return (whole - busy) / whole if whole > 0 else 0.0


def _check_numbers(
    segments: int,
    forward_cost: Sequence[float],
    backward_cost: Sequence[float],
    message_cost: float,
    slots: int | None,
) -> None:
    if len(forward_cost) != segments or len(backward_cost) != segments:
        raise ValueError(f"the costs of {segments} segments are needed")
    every = (*forward_cost, *backward_cost, message_cost)
    if not all(math.isfinite(cost) and cost >= 0 for cost in every):
        raise ValueError("costs must be finite and not negative")
    if slots is not None and slots < 1:
        raise ValueError("an edge needs at least one receive slot")
