from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from clicooper_hpc.errors import DataError
from clicooper_hpc.privacy import clipping
from clicooper_hpc.privacy.clipping import clip_rows, clip_to_grid
from clicooper_hpc.privacy.release_spec import ReleaseSpec, solve_release_spec
from clicooper_hpc.privacy.sensitivity import Guarantee, Relation, Unit


def make_spec(
    dimension: int,
    *,
    unit: Unit = "sample",
    clip: float = 1.0,
    non_negative: bool = False,
    relation: Relation = "replace-one",
) -> ReleaseSpec:
    distance = clip / 4 if unit == "metric" else None
    return solve_release_spec(
        Guarantee(unit, relation, clip, dimension, 2.0, 1e-5, non_negative, distance),
    )


def exact_norm_is_bounded(row: np.ndarray, spec: ReleaseSpec) -> bool:
    limit = (Fraction(spec.guarantee.clip) / Fraction(spec.grid)) ** 2
    return sum(int(n) ** 2 for n in row) <= limit


NASTY = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False, width=64),
    st.sampled_from([0.0, -0.0, 5e-324, 2.0**-1022, 1.7e308, -1.7e308, 1e-200, 1.0, -1.0]),
    st.floats(-2, 2),
)


@settings(max_examples=80, deadline=None)
@given(
    hnp.arrays(np.float64, hnp.array_shapes(min_dims=2, max_dims=2, max_side=6), elements=NASTY),
    st.sampled_from([1.0, 0.7, 5.0, math.nextafter(5.0, 0.0), 1e-3, 977.3]),
    st.booleans(),
    st.sampled_from(["sample", "metric"]),
)
def test_integer_rows_never_leave_the_ball(
    rows: np.ndarray, clip: float, non_negative: bool, unit: Unit
) -> None:
    spec = make_spec(rows.shape[1], unit=unit, clip=clip, non_negative=non_negative)
    integers = clip_to_grid(rows, spec)
    assert integers.dtype == np.int32
    for row in integers:
        assert exact_norm_is_bounded(row, spec)
    if non_negative:
        assert integers.min(initial=0) >= 0


@settings(max_examples=60, deadline=None)
@given(
    hnp.arrays(np.float32, (3, 5), elements=st.floats(-3, 3, width=32)),
    st.sampled_from([0.1, 1.0, 1.7, 3.0]),
    st.booleans(),
)
def test_truncation_goes_towards_zero_by_less_than_one_step(
    rows: np.ndarray, clip: float, non_negative: bool
) -> None:
    spec = make_spec(5, clip=clip, non_negative=non_negative)
    clipped = clip_rows(rows, spec.guarantee)
    cut = clip_to_grid(rows, spec) * spec.grid
    assert np.all(np.abs(cut) <= np.abs(clipped) + 1e-12)
    assert np.all(np.abs(clipped - cut) < spec.grid * (1 + 1e-9))
    assert np.all(cut * clipped >= 0)


@settings(max_examples=100, deadline=None)
@given(
    hnp.arrays(np.float64, (2, 7), elements=st.floats(-1e6, 1e6)),
    st.booleans(),
)
def test_metric_neighbours_end_within_the_stated_sensitivity(
    rows: np.ndarray, non_negative: bool
) -> None:
    spec = make_spec(7, unit="metric", non_negative=non_negative)
    # The second row is put at most D0 away from the first.
    step = rows[1] / max(1.0, float(np.linalg.norm(rows[1])) * 4.0000001)
    first = rows[0] / max(1.0, float(np.linalg.norm(rows[0])) / 1.5)
    a, b = clip_to_grid(np.stack([first, first + step]), spec).astype(np.float64)
    assert np.linalg.norm(a - b) * spec.grid <= spec.sensitivity


def test_the_integer_check_is_not_idle() -> None:
    """A bound just below 5 and a row along (3, 4): float64 alone would release (3, 4)."""
    clip = math.nextafter(5.0, 0.0)
    spec = replace(make_spec(2, clip=clip), grid=1.0)
    rows = np.outer(np.linspace(1.0, 3.0, 997), [3.0, 4.0])
    loose = clipping._cut(clipping._project(rows, spec.guarantee, clip), spec)
    assert any(not exact_norm_is_bounded(row, spec) for row in loose)
    assert all(exact_norm_is_bounded(row, spec) for row in clip_to_grid(rows, spec))


def test_element_unit_bounds_each_coordinate() -> None:
    rows = np.array([[-1e300, -0.3, 0.3, 1e300]])
    spec = make_spec(4, unit="element", clip=0.7)
    bound = math.floor(0.7 / spec.grid)
    low = -math.floor(0.3 / spec.grid)
    assert clip_to_grid(rows, spec).tolist() == [[-bound, low, -low, bound]]
    positive = make_spec(4, unit="element", clip=0.7, non_negative=True)
    bound, middle = math.floor(0.7 / positive.grid), math.floor(0.3 / positive.grid)
    assert clip_to_grid(rows, positive).tolist() == [[0, 0, middle, bound]]


def test_a_row_is_independent_of_its_batch() -> None:
    rows = np.random.default_rng(0).normal(size=(33, 1037)).astype(np.float32)
    spec = make_spec(1037)
    whole = clip_to_grid(rows, spec)
    assert np.array_equal(np.concatenate([clip_to_grid(row[None], spec) for row in rows]), whole)
    assert np.array_equal(clip_to_grid(np.asfortranarray(rows), spec), whole)
    assert np.array_equal(clip_to_grid(rows[::-1], spec)[::-1], whole)


def test_short_rows_are_left_alone() -> None:
    rows = np.array([[0.25, -0.5], [0.0, 0.0]], dtype=np.float32)
    assert np.array_equal(clip_rows(rows, make_spec(2).guarantee), rows)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_row_that_cannot_be_clipped_is_named(bad: float) -> None:
    rows = np.zeros((3, 4), dtype=np.float32)
    rows[1, 2] = bad
    with pytest.raises(DataError, match=r"sample 70: .* at position 2"):
        clip_to_grid(rows, make_spec(4), np.array([50, 70, 90]))
    with pytest.raises(DataError, match="row 1"):
        clip_rows(rows, make_spec(4).guarantee)


def test_wrong_shape_and_dtype_are_programming_errors() -> None:
    with pytest.raises(ValueError, match="rows must be"):
        clip_to_grid(np.zeros((2, 5), dtype=np.float32), make_spec(4))
    with pytest.raises(ValueError, match="float32"):
        clip_to_grid(np.zeros((2, 4), dtype=np.int64), make_spec(4))
