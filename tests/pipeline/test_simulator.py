"""The simulator: textbook figures, an independent oracle, and proofs of freedom from deadlock."""

from __future__ import annotations

from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clicooper_hpc.pipeline.schedule import (
    SCHEDULES,
    Action,
    Coupling,
    Op,
    Schedule,
    ScheduleError,
    make_schedule,
    schedule_peaks,
)
from clicooper_hpc.pipeline.simulator import Simulation, simulate, simulate_required_slots

DEPTHS = [(p, m) for p in range(1, 9) for m in range(1, 17)]
COUPLING: dict[str, Coupling] = {
    "gpipe": "backprop",
    "1f1b": "backprop",
    "one-way": "one-way",
    "forward-only": "backprop",
}


def parse(*texts: str) -> Schedule:
    return tuple(
        tuple(Op(Action(word[0]), int(word[1:])) for word in text.split()) for text in texts
    )


def even(
    schedule: Schedule,
    coupling: Coupling,
    *,
    forward: float = 1.0,
    backward: float = 2.0,
    message_cost: float = 0.0,
    slots: int | None = None,
) -> Simulation:
    """Simulate with the same costs on every segment."""
    count = len(schedule)
    return simulate(
        schedule,
        coupling=coupling,
        forward_cost=[forward] * count,
        backward_cost=[backward] * count,
        message_cost=message_cost,
        slots=slots,
    )


@pytest.mark.parametrize("name", ["gpipe", "1f1b"])
@pytest.mark.parametrize("backward", [1.0, 2.0])
def test_textbook_bubble(name: str, backward: float) -> None:
    for p, m in DEPTHS:
        done = even(make_schedule(name, p, m), "backprop", backward=backward)
        assert done.makespan == (m + p - 1) * (1 + backward)
        assert done.bubbles == ((p - 1) / (m + p - 1),) * p
        assert done.bubble == (p - 1) / (m + p - 1)
        assert done.busy == (m * (1 + backward),) * p


def test_one_way_lanes_never_wait_once_started() -> None:
    for p, m in DEPTHS:
        done = even(make_schedule("one-way", p, m), "one-way")
        # Lane i starts after i forwards and then works without a gap.
        assert [lane[0].start for lane in done.lanes] == list(range(p))
        assert done.makespan == (p - 1) + 3 * m


@pytest.mark.parametrize("name", SCHEDULES)
def test_required_slots_is_the_smallest_number_that_works(name: str) -> None:
    for p, m in DEPTHS:
        schedule = make_schedule(name, p, m)
        coupling = COUPLING[name]
        needed = simulate_required_slots(schedule, coupling)
        assert needed == max(schedule_peaks(schedule))
        even(schedule, coupling, slots=needed)
        if needed > 1:
            with pytest.raises(ScheduleError, match="deadlocks"):
                even(schedule, coupling, slots=needed - 1)


@pytest.mark.parametrize(
    ("name", "expected"), [("gpipe", 6), ("1f1b", 4), ("one-way", 1), ("forward-only", 1)]
)
def test_required_slots_table(name: str, expected: int) -> None:
    assert simulate_required_slots(make_schedule(name, 4, 6), COUPLING[name]) == expected


def test_required_slots_counts_messages_that_arrive_out_of_turn() -> None:
    # Segment 2 holds one activation at a time, but the message of F0 waits while F1 comes.
    crossed = parse("F0 B0 F1 B1 F2 B2", "F1 B1 F2 B2 F0 B0")
    assert schedule_peaks(crossed) == (1, 1)
    assert simulate_required_slots(crossed, "one-way") == 2


@pytest.mark.parametrize("name", SCHEDULES)
def test_messages_on_every_edge(name: str) -> None:
    coupling = COUPLING[name]
    done = even(make_schedule(name, 3, 4), coupling)
    assert done.forward_messages == (4, 4, 4)
    gradients = 4 if name in ("gpipe", "1f1b") else 0
    assert done.backward_messages == (0, gradients, gradients)  # none ever reaches the owner


@pytest.mark.parametrize(
    ("schedule", "slots", "message"),
    [
        (
            parse("F0 B0 F1 B1", "F0 F1 B0 B1"),
            None,
            "segment 1 at B0 waits for the gradient from segment 2; "
            "segment 2 at F1 waits for the activation from segment 1",
        ),
        (
            parse("F0 F1 B0 B1", "F0 F1 B0 B1"),
            1,
            "segment 1 at F1 waits for the activation from the owner; "
            "segment 2 at F1 waits for the activation from segment 1",
        ),
        (
            parse("F0 F1 B1 B0", "F1 B1 F0 B0"),
            1,
            "segment 1 at F1 waits for the activation from the owner; "
            "segment 2 at F1 waits for the activation from segment 1",
        ),
        (
            parse("F0 F1 B0 F2 B1 B2", "F0 F1 F2 B0 B1 B2"),
            2,
            "segment 1 at B0 waits for the gradient from segment 2; "
            "segment 2 at F2 waits for the activation from segment 1",
        ),
    ],
)
def test_deadlock_names_lane_operation_and_cause(
    schedule: Schedule, slots: int | None, message: str
) -> None:
    with pytest.raises(ScheduleError) as caught:
        even(schedule, "backprop", slots=slots)
    assert message in str(caught.value)


def test_deadlock_of_a_sender_names_the_missing_slot() -> None:
    schedule = parse("F0 B0 F1 B1 F2 B2", "F0 F1 F2 B0 B1 B2")
    with pytest.raises(ScheduleError) as caught:
        even(schedule, "one-way", slots=2)
    assert str(caught.value) == (
        "the schedule deadlocks: segment 1 at F2 waits for a free receive slot of segment 2; "
        "segment 2 at F2 waits for the activation from segment 1"
    )
    assert simulate_required_slots(schedule, "one-way") == 3


def test_no_number_of_slots_mends_a_wrong_order() -> None:
    wrong = parse("F0 B0 F1 B1", "F0 F1 B0 B1")
    with pytest.raises(ScheduleError, match="segment 1 at B0"):
        simulate_required_slots(wrong, "backprop")
    assert simulate_required_slots(wrong, "one-way") == 2  # without gradients the order is fine


def test_bounded_slots_hold_a_fast_sender_back() -> None:
    schedule = make_schedule("one-way", 2, 3)
    costs = [1.0, 10.0]
    free = simulate(schedule, coupling="one-way", forward_cost=costs, backward_cost=costs)
    held = simulate(schedule, coupling="one-way", forward_cost=costs, backward_cost=costs, slots=1)
    assert [timed.start for timed in free.lanes[0]] == [0, 1, 2, 3, 4, 5]
    # F1 ends at 3, but its message gets a slot only at 21, when segment 2 is done with B0.
    assert [timed.start for timed in held.lanes[0]] == [0, 1, 2, 21, 22, 41]
    assert [send.start for send in held.owner] == [0, 2, 22]
    assert free.makespan == held.makespan == 61


def test_a_slow_edge_carries_one_message_at_a_time() -> None:
    done = even(make_schedule("forward-only", 2, 3), "backprop", message_cost=5.0)
    assert [(send.start, send.end) for send in done.owner] == [(0, 5), (5, 10), (10, 15)]
    assert [timed.start for timed in done.lanes[0]] == [5, 10, 15]
    assert [timed.start for timed in done.lanes[1]] == [11, 16, 21]


def test_wrong_numbers_are_refused() -> None:
    schedule = make_schedule("gpipe", 2, 2)
    with pytest.raises(ValueError, match="costs of 2 segments"):
        simulate(schedule, coupling="backprop", forward_cost=[1], backward_cost=[1, 1])
    with pytest.raises(ValueError, match="not negative"):
        even(schedule, "backprop", forward=-1.0)
    with pytest.raises(ValueError, match="finite"):
        even(schedule, "backprop", message_cost=float("nan"))
    with pytest.raises(ValueError, match="receive slot"):
        even(schedule, "backprop", slots=0)


def test_a_step_without_cost_has_no_bubble() -> None:
    done = even(make_schedule("1f1b", 2, 2), "backprop", forward=0.0, backward=0.0)
    assert (done.makespan, done.bubble, done.bubbles) == (0.0, 0.0, (0.0, 0.0))


COSTS = st.lists(st.integers(0, 20), min_size=8, max_size=8)


@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from(sorted(SCHEDULES)),
    depth=st.tuples(st.integers(1, 8), st.integers(1, 16)),
    forward=COSTS,
    backward=COSTS,
)
def test_makespan_is_the_longest_path(
    name: str, depth: tuple[int, int], forward: list[int], backward: list[int]
) -> None:
    """Without message costs the end of an operation is the longest chain of needs before it."""
    p, m = depth
    schedule, coupling = make_schedule(name, p, m), COUPLING[name]
    cost = {Action.FORWARD: forward, Action.BACKWARD: backward}

    @cache
    def end(lane: int, at: int) -> int:
        op = schedule[lane][at]
        before = end(lane, at - 1) if at else 0
        peer = lane - 1 if op.action is Action.FORWARD else lane + 1
        linked = op.action is Action.FORWARD or coupling == "backprop"
        needed = end(peer, schedule[peer].index(op)) if linked and 0 <= peer < p else 0
        return max(before, needed) + cost[op.action][lane]

    done = simulate(
        schedule, coupling=coupling, forward_cost=forward[:p], backward_cost=backward[:p]
    )
    for lane, timed_ops in enumerate(done.lanes):
        assert [timed.end for timed in timed_ops] == [
            end(lane, at) for at in range(len(schedule[lane]))
        ]
    assert done.makespan == max(end(lane, len(schedule[lane]) - 1) for lane in range(p))


@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from(sorted(SCHEDULES)),
    depth=st.tuples(st.integers(1, 8), st.integers(1, 16)),
    forward=COSTS,
    backward=COSTS,
    message_cost=st.integers(0, 9),
    spare=st.integers(0, 3),
)
def test_required_slots_suffice_whatever_anything_costs(
    name: str,
    depth: tuple[int, int],
    forward: list[int],
    backward: list[int],
    message_cost: int,
    spare: int,
) -> None:
    p, m = depth
    schedule, coupling = make_schedule(name, p, m), COUPLING[name]
    slots = simulate_required_slots(schedule, coupling) + spare
    done = simulate(
        schedule,
        coupling=coupling,
        forward_cost=forward[:p],
        backward_cost=backward[:p],
        message_cost=message_cost,
        slots=slots,
    )
    ends = [{timed.op: timed.end for timed in lane} for lane in done.lanes]
    last = Action.FORWARD if name == "forward-only" else Action.BACKWARD
    for index, lane in enumerate(done.lanes):
        assert tuple(timed.op for timed in lane) == schedule[index]
        clock = 0.0
        for timed in lane:
            assert timed.start >= clock  # one operation at a time
            clock = timed.end
            k = timed.op.micro_batch
            if timed.op.action is Action.FORWARD:
                sent = ends[index - 1][timed.op] if index else 0.0
                assert timed.start >= sent + message_cost
            elif coupling == "backprop" and index + 1 < p:
                assert timed.start >= ends[index + 1][timed.op] + message_cost
            if k >= slots and timed.op.action is Action.FORWARD:
                # Its message reused a slot, so an earlier micro-batch was done with.
                assert timed.start >= ends[index][Op(last, k - slots)] + message_cost
