"""The schedule generators, and the rules every schedule obeys."""

from __future__ import annotations

import pytest

from clicooper_hpc.errors import UsageError
from clicooper_hpc.pipeline import schedule as module
from clicooper_hpc.pipeline.schedule import (
    SCHEDULES,
    Action,
    Op,
    Schedule,
    ScheduleError,
    check_schedule,
    check_schedule_depth,
    gpipe_schedule,
    make_schedule,
    one_f_one_b_schedule,
    schedule_peaks,
)
from clicooper_hpc.pipeline.simulator import simulate

DEPTHS = [(p, m) for p in range(1, 9) for m in range(1, 17)]


def lanes(schedule: Schedule) -> list[str]:
    return [" ".join(map(str, lane)) for lane in schedule]


def parse(*texts: str) -> Schedule:
    return tuple(
        tuple(Op(Action(word[0]), int(word[1:])) for word in text.split()) for text in texts
    )


@pytest.mark.parametrize(
    ("name", "segments", "micro_batches", "expected"),
    [
        ("gpipe", 2, 3, ["F0 F1 F2 B0 B1 B2"] * 2),
        ("one-way", 2, 3, ["F0 B0 F1 B1 F2 B2"] * 2),
        ("forward-only", 2, 3, ["F0 F1 F2"] * 2),
        (
            "1f1b",
            4,
            5,
            [
                "F0 F1 F2 F3 B0 F4 B1 B2 B3 B4",
                "F0 F1 F2 B0 F3 B1 F4 B2 B3 B4",
                "F0 F1 B0 F2 B1 F3 B2 F4 B3 B4",
                "F0 B0 F1 B1 F2 B2 F3 B3 F4 B4",
            ],
        ),
        # A short last batch: fewer micro-batches than segments.
        ("1f1b", 4, 2, ["F0 F1 B0 B1", "F0 F1 B0 B1", "F0 F1 B0 B1", "F0 B0 F1 B1"]),
        ("1f1b", 1, 2, ["F0 B0 F1 B1"]),
    ],
)
def test_table(name: str, segments: int, micro_batches: int, expected: list[str]) -> None:
    assert lanes(make_schedule(name, segments, micro_batches)) == expected


@pytest.mark.parametrize("name", SCHEDULES)
def test_every_schedule_is_well_formed_and_ordered(name: str) -> None:
    for segments, micro_batches in DEPTHS:
        schedule = make_schedule(name, segments, micro_batches)
        assert check_schedule(schedule) == micro_batches
        assert len(schedule) == segments
        for lane in schedule:
            # In order: sums of gradients are then those of one process, to the bit.
            for action in Action:
                order = [op.micro_batch for op in lane if op.action is action]
                absent = name == "forward-only" and action is Action.BACKWARD
                assert order == ([] if absent else list(range(micro_batches)))


def test_peak_activations() -> None:
    for p, m in DEPTHS:
        assert schedule_peaks(one_f_one_b_schedule(p, m)) == tuple(min(m, p - i) for i in range(p))
        assert schedule_peaks(gpipe_schedule(p, m)) == (m,) * p
        assert schedule_peaks(make_schedule("one-way", p, m)) == (1,) * p
        assert schedule_peaks(make_schedule("forward-only", p, m)) == (1,) * p


def test_diagram_in_the_module_docstring_is_the_simulated_one() -> None:
    drawn = [
        line.strip().removeprefix(f"lane {i}")[2:]
        for line in (module.__doc__ or "").splitlines()
        for i in range(3)
        if line.strip().startswith(f"lane {i}")
    ]
    done = simulate(
        one_f_one_b_schedule(3, 5), coupling="backprop", forward_cost=[1] * 3, backward_cost=[1] * 3
    )
    assert len(drawn) == 3
    for text, lane in zip(drawn, done.lanes, strict=True):
        cells = [text[at : at + 3].strip() for at in range(0, len(text), 3)]
        starts = {cell: at for at, cell in enumerate(cells) if cell.strip(".")}
        assert starts == {str(timed.op): int(timed.start) for timed in lane}


def test_ops_print_sort_and_hash_as_values() -> None:
    assert str(Op(Action.BACKWARD, 12)) == "B12"
    assert len({Op(Action.FORWARD, 1), Op(Action.FORWARD, 1)}) == 1
    assert sorted(parse("F10 F9 B0")[0]) == list(parse("B0 F9 F10")[0])


def test_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(UsageError, match=r"'zigzag'.*gpipe, 1f1b, one-way, forward-only"):
        make_schedule("zigzag", 2, 2)


def test_depth_error_names_both_numbers() -> None:
    check_schedule_depth(3, 3)
    with pytest.raises(UsageError, match=r"\b2 micro-batches .* \b3 segments"):
        check_schedule_depth(3, 2)


@pytest.mark.parametrize("counts", [(0, 1), (1, 0)])
def test_empty_schedules_are_refused(counts: tuple[int, int]) -> None:
    for name in SCHEDULES:
        with pytest.raises(ValueError, match="at least one"):
            make_schedule(name, *counts)


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["F0 F1 B0 B1", "F0 B0 B1 F1"], "segment 2 has B1 before its forward"),
        (["F0 B0", "F0 F0 B0"], "segment 2 has F0 twice"),
        (["F0 F1 B0 B1", "F0 F1 B0"], "segment 2 lacks B1"),
        (["F0 F1 B0"], "segment 1 lacks B1"),
        (["F0 F2"], "segment 1 has F2, which does not belong there"),
        (["F0", "F0 B0"], "segment 2 has B0, which does not belong there"),
        (["F0 F1", "F0"], "segment 2 lacks F1"),
        ([""], "needs a segment and an operation"),
        ([], "needs a segment and an operation"),
    ],
)
def test_malformed_schedules_are_named(texts: list[str], message: str) -> None:
    with pytest.raises(ScheduleError, match=message):
        check_schedule(parse(*texts))
