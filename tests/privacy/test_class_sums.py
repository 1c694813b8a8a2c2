"""Class sums: no neighbour moves them farther than claimed, and noise is never drawn anew."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from clicooper_hpc.digests import digest_bytes
from clicooper_hpc.errors import DataError
from clicooper_hpc.privacy.class_sums import (
    class_sums_guarantee,
    exact_class_sums,
    grid_class_sums,
    noised_class_sums,
)
from clicooper_hpc.privacy.gaussian_mechanism import gaussian_epsilon
from clicooper_hpc.privacy.master_key import MasterKey
from clicooper_hpc.privacy.noise import NoiseStream, ReleaseContext
from clicooper_hpc.privacy.release_spec import ReleaseSpec, solve_release_spec
from clicooper_hpc.privacy.sensitivity import Guarantee, Relation

K, P = 3, 4
FRONT, DATA = digest_bytes("t", b"front"), digest_bytes("t", b"data")


def spec_of(relation: Relation = "replace-one", dimension: int = P, **kw: float) -> ReleaseSpec:
    values = {"epsilon": 2.0, "delta": 1e-5} | kw
    return solve_release_spec(class_sums_guarantee(dimension, relation=relation, **values))


SPECS: dict[Relation, ReleaseSpec] = {
    "replace-one": spec_of(),
    "zero-out": spec_of("zero-out"),
}
ROWS = hnp.arrays(
    np.float64, (5, P), elements=st.floats(-2, 2, width=64) | st.floats(-1e200, 1e200, width=64)
)
CLASSES = hnp.arrays(np.int64, (5,), elements=st.integers(0, K - 1))


def distance(one: NDArray[np.int64], other: NDArray[np.int64]) -> int:
    """Squared L2 distance of the stacked sums in grid steps, exact."""
    moved = (one - other).astype(object)
    return int((moved * moved).sum())


@settings(max_examples=150, deadline=None)
@given(ROWS, CLASSES, st.integers(0, 4), ROWS, CLASSES)
def test_replacing_any_sample_by_any_other_moves_the_sums_by_at_most_two(
    rows: NDArray[np.float64],
    classes: NDArray[np.int64],
    which: int,
    others: NDArray[np.float64],
    labels: NDArray[np.int64],
) -> None:
    spec = SPECS["replace-one"]
    near, names = rows.copy(), classes.copy()
    near[which], names[which] = others[0], labels[0]
    moved = distance(grid_class_sums(rows, classes, K, spec), grid_class_sums(near, names, K, spec))
    bound = spec.sensitivity / spec.grid
    assert moved <= bound**2
    if labels[0] != classes[which]:
        assert moved <= bound**2 / 2


@settings(max_examples=100, deadline=None)
@given(ROWS, CLASSES, st.integers(0, 4), st.integers(0, K - 1))
def test_zeroing_any_sample_moves_the_sums_by_at_most_one(
    rows: NDArray[np.float64], classes: NDArray[np.int64], which: int, label: int
) -> None:
    spec = SPECS["zero-out"]
    assert spec.sensitivity == 1.0
    near, names = rows.copy(), classes.copy()
    near[which], names[which] = 0.0, label
    moved = distance(grid_class_sums(rows, classes, K, spec), grid_class_sums(near, names, K, spec))
    assert moved <= (spec.sensitivity / spec.grid) ** 2


def test_no_pair_of_corner_rows_and_labels_exceeds_the_bound_and_one_reaches_it() -> None:
    """All rows on a lattice of directions, all labels, against all others."""
    spec = SPECS["replace-one"]
    corners = [np.array(c, dtype=np.float64) for c in itertools.product((-1, 0, 1), repeat=P)]
    rest = np.ones((2, P))
    made = [
        grid_class_sums(np.vstack([rest, corner]), np.array([0, 1, label]), 2, spec)
        for corner in corners
        for label in (0, 1)
    ]
    worst = max(distance(one, other) for one, other in itertools.combinations(made, 2))
    bound = (2 / spec.grid) ** 2
    assert 0.999 * bound <= worst <= bound


def test_noise_is_that_of_a_released_row_with_clip_one() -> None:
    for relation, spec in SPECS.items():
        row = solve_release_spec(Guarantee("sample", relation, 1.0, P, 2.0, 1e-5))
        assert spec == row
        assert gaussian_epsilon(spec.sigma, 1e-5, spec.sensitivity) <= 2.0


def test_sums_are_those_of_the_rows_and_may_be_made_in_parts() -> None:
    rng = np.random.default_rng(0)
    rows, classes = rng.normal(size=(200, P)), rng.integers(0, K, 200)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    spec = SPECS["replace-one"]
    whole = grid_class_sums(rows, classes, K, spec)
    parts = grid_class_sums(rows[:70], classes[:70], K, spec)
    parts += grid_class_sums(rows[70:], classes[70:], K, spec)
    order = rng.permutation(200)
    assert np.array_equal(whole, parts)
    assert np.array_equal(whole, grid_class_sums(rows[order], classes[order], K, spec))
    want = np.stack([rows[classes == k].sum(axis=0) for k in range(K)])
    assert np.abs(exact_class_sums(rows, classes, K) - want).max() < 1e-12
    assert np.abs(whole * spec.grid - want).max() <= 200 * spec.grid


def stream(spec: ReleaseSpec, seed: int = 1, split: str = "spent", **kw: Any) -> NoiseStream:
    context = ReleaseContext(split, kw.get("front", FRONT), kw.get("data", DATA), spec)
    return NoiseStream(MasterKey.from_seed(seed), context)


def test_the_same_key_and_context_give_the_same_bits_and_no_other_does() -> None:
    spec = spec_of(dimension=50)
    sums = np.arange(150, dtype=np.int64).reshape(3, 50)
    first = noised_class_sums(sums, stream(spec))
    assert np.array_equal(first, noised_class_sums(sums, stream(spec)))
    assert np.array_equal(first / spec.grid, np.rint(first / spec.grid))
    other = digest_bytes("t", b"other")
    changed = [
        stream(spec, seed=2),
        stream(spec, split="train"),
        stream(spec, front=other),
        stream(spec, data=other),
    ]
    for one in changed:
        assert (noised_class_sums(sums, one) != first).mean() > 0.9


def test_every_number_of_every_class_has_its_own_noise_of_the_solved_size() -> None:
    spec = spec_of(dimension=20_000)
    noise = noised_class_sums(np.zeros((3, 20_000), dtype=np.int64), stream(spec))
    assert np.allclose(noise.std(axis=1), spec.sigma, rtol=0.03)
    assert np.abs(noise.mean(axis=1)).max() < 5 * spec.sigma / 20_000**0.5
    assert np.abs(np.corrcoef(noise) - np.eye(3)).max() < 0.04


def test_what_makes_no_sum_is_refused() -> None:
    spec = SPECS["replace-one"]
    rows, classes = np.zeros((2, P)), np.array([0, K])
    with pytest.raises(ValueError, match="classes must lie"):
        grid_class_sums(rows, classes, K, spec)
    with pytest.raises(ValueError, match="2 rows, but classes"):
        exact_class_sums(rows, classes[:1], K)
    with pytest.raises(DataError, match="front made nan"):
        grid_class_sums(np.full((1, P), np.nan), classes[:1], K, spec)
    element = solve_release_spec(Guarantee("element", "replace-one", 1.0, P, 2.0, 1e-5))
    with pytest.raises(ValueError, match="whole sample"):
        grid_class_sums(rows, np.zeros(2, dtype=np.int64), K, element)
