"""The partitioner against brute force, and the messages a user meets."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clicooper_hpc.errors import UsageError
from clicooper_hpc.pipeline.partition import check_partition, partition_layers, partition_spans


def brute_force(
    costs: list[list[int]], memory: list[int] | None, limits: list[int | None] | None
) -> tuple[int, ...] | None:
    """Try all cuts, earliest first; None if the limits cannot be met."""
    layers, best, choice = len(costs[0]), None, None
    for cuts in combinations(range(1, layers), len(costs) - 1):
        parts = partition_spans(cuts, layers)
        if memory is not None and limits is not None:
            used = [sum(memory[layer] for layer in part) for part in parts]
            if any(
                limit is not None and need > limit for need, limit in zip(used, limits, strict=True)
            ):
                continue
        pace = max(
            sum(row[layer] for layer in part) for row, part in zip(costs, parts, strict=True)
        )
        if best is None or pace < best:
            best, choice = pace, cuts
    return choice


@st.composite
def problems(
    draw: st.DrawFn,
) -> tuple[list[list[int]], list[int], list[int | None]]:
    layers = draw(st.integers(1, 8))
    segments = draw(st.integers(1, layers))
    row = st.lists(st.integers(0, 9), min_size=layers, max_size=layers)
    costs = draw(st.lists(row, min_size=segments, max_size=segments))
    memory = draw(st.lists(st.integers(0, 9), min_size=layers, max_size=layers))
    limit = st.one_of(st.none(), st.integers(0, 25))
    limits = draw(st.lists(limit, min_size=segments, max_size=segments))
    return costs, memory, limits


@settings(max_examples=150, deadline=None)
@given(problems())
def test_best_and_earliest_cuts(
    problem: tuple[list[list[int]], list[int], list[int | None]],
) -> None:
    costs, _, _ = problem
    assert partition_layers(np.array(costs, dtype=np.float64)) == brute_force(costs, None, None)


@settings(max_examples=250, deadline=None)
@given(problems())
def test_limits_are_kept_or_a_rank_is_named(
    problem: tuple[list[list[int]], list[int], list[int | None]],
) -> None:
    costs, memory, limits = problem
    expected = brute_force(costs, memory, limits)
    matrix, sizes = np.array(costs, dtype=np.float64), np.array(memory)
    if expected is None:
        with pytest.raises(UsageError, match=r"^rank \d+: .*more than its limit") as caught:
            partition_layers(matrix, sizes, limits)
        rank = int((caught.value.where or "").split()[1])
        assert limits[rank - 1] is not None
    else:
        assert partition_layers(matrix, sizes, limits) == expected


def test_a_faster_rank_gets_more_layers() -> None:
    one = np.ones(9)
    assert partition_layers(np.stack([one, one, one])) == (3, 6)
    assert partition_layers(np.stack([one, one / 4, one])) == (1, 8)
    assert partition_layers(np.stack([one * 2])) == ()


def test_equal_choices_go_to_the_earliest_cuts() -> None:
    assert partition_layers(np.array([[1.0, 0, 0, 1], [1, 0, 0, 1]])) == (1,)


def test_memory_overrules_speed() -> None:
    costs = np.ones((2, 4))
    memory = np.array([10, 10, 10, 30])
    assert partition_layers(costs, memory, [None, 100]) == (2,)
    assert partition_layers(costs, memory, [None, 35]) == (3,)


def test_the_rank_that_cannot_hold_its_part_is_named() -> None:
    costs, memory = np.ones((3, 4)), np.array([10, 20, 30, 40])
    with pytest.raises(UsageError, match=r"rank 3: .* needs 40 bytes, more than its limit of 39"):
        partition_layers(costs, memory, [None, None, 39])
    with pytest.raises(UsageError, match=r"rank 1: .* needs 10 bytes, more than its limit of 9"):
        partition_layers(costs, memory, [9, None, None])
    # Rank 1 may take one layer, rank 2 one more: too much is left for rank 3.
    with pytest.raises(UsageError, match=r"rank 3: .* needs 70 bytes, more than its limit of 60"):
        partition_layers(costs, memory, [15, 25, 60])


def test_more_segments_than_layers_names_both_numbers() -> None:
    with pytest.raises(UsageError, match=r"2 layers .* 3 trainers"):
        partition_layers(np.ones((3, 2)))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -1.0])
def test_costs_that_are_no_costs_are_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        partition_layers(np.array([[1.0, bad]]))


def test_limits_need_memory_of_every_layer() -> None:
    with pytest.raises(ValueError, match="limits need"):
        partition_layers(np.ones((2, 3)), None, [1, 2])
    with pytest.raises(ValueError, match="limits need"):
        partition_layers(np.ones((2, 3)), np.ones(2), [1, 2])
    assert partition_layers(np.ones((2, 4)), None, [None, None]) == (2,)


def test_spans() -> None:
    assert partition_spans((2, 5), 6) == [range(2), range(2, 5), range(5, 6)]
    assert partition_spans((), 3) == [range(3)]


def test_explicit_cuts_are_taken_as_they_are() -> None:
    assert check_partition([1, 3], layers=4, segments=3) == (1, 3)
    assert check_partition([], layers=1, segments=1) == ()


@pytest.mark.parametrize(
    ("cuts", "message"),
    [
        ([1], "1 cuts make 2 segments, but there are 3 trainers"),
        ([2, 2], r"cuts \[2, 2\] do not increase"),
        ([3, 1], r"cuts \[3, 1\] do not increase"),
        ([0, 2], "1 to 3"),
        ([2, 4], "has 4 layers after the front"),
    ],
)
def test_wrong_cuts_are_explained(cuts: list[int], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        check_partition(cuts, layers=4, segments=3)


def test_cuts_of_a_network_too_short() -> None:
    with pytest.raises(UsageError, match=r"2 layers .* 3 trainers"):
        check_partition([1, 2], layers=2, segments=3)
