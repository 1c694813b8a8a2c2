"""Moments of all samples: exact sums, sensitivity 2, noise of the right size, once."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from clicooper_hpc.digests import digest_bytes
from clicooper_hpc.errors import UsageError
from clicooper_hpc.privacy.both_relations import state_summed_release
from clicooper_hpc.privacy.master_key import MasterKey
from clicooper_hpc.privacy.moments import (
    Moments,
    MomentSums,
    moments_context,
    noised_moments,
    solve_moments_spec,
)
from clicooper_hpc.privacy.release_spec import ReleaseSpec

K, P = 4, 12
FRONT, DATA = digest_bytes("test", b"front"), digest_bytes("test", b"data")
Sample = tuple[NDArray[np.float64], int]


def spec_of(epsilon: float = 2.0, dimension: int = P) -> ReleaseSpec:
    return solve_moments_spec(dimension, epsilon=epsilon, delta=1e-5)


def sums_of(samples: list[Sample], spec: ReleaseSpec | None) -> MomentSums:
    sums = MomentSums(K, len(samples[0][0]), spec)
    sums.add_rows(np.stack([row for row, _ in samples]), np.array([label for _, label in samples]))
    return sums


def released(sums: MomentSums, spec: ReleaseSpec, *, seed: int = 0) -> Moments:
    return noised_moments(sums, moments_context(FRONT, DATA, spec), MasterKey.from_seed(seed))


def distance(a: MomentSums, b: MomentSums, spec: ReleaseSpec) -> float:
    """How far apart two sets of sums are, in units of the noise that each number gets."""
    grid, sigma, wide = spec.grid, spec.sigma, math.sqrt(2) * spec.sigma
    upper = np.triu_indices(a.second.shape[0], 1)
    second = (a.second - b.second) * grid**2
    parts = [
        (a.sums - b.sums).ravel() * grid / sigma,
        second[upper] / sigma,
        np.diag(second) / wide,
        (a.sizes - b.sizes) / wide,
    ]
    return float(np.linalg.norm(np.concatenate(parts)))


def unit(rng: np.random.Generator, length: float = 1.0) -> NDArray[np.float64]:
    row = rng.normal(size=P)
    scaled: NDArray[np.float64] = row * (length / np.linalg.norm(row))
    return scaled


def neighbours() -> list[tuple[Sample, Sample]]:
    """Pairs of samples: the worst ones of the proof, and many others."""
    rng = np.random.default_rng(3)
    x, y = np.eye(P)[0], np.eye(P)[1]
    pairs: list[tuple[Sample, Sample]] = [
        ((x, 0), (-x, 0)),
        ((x, 0), (y, 1)),
        ((x, 0), (x, 1)),
        ((x, 0), (-x, 1)),
        ((x, 0), (np.zeros(P), 1)),
        # Longer than the bound: clipped, or a sample could move the sums as far as it likes.
        ((9 * x, 2), (-9 * x, 2)),
    ]
    for _ in range(300):
        lengths = rng.choice([0.2, 0.9, 1.0, 1.0, 5.0], size=2)
        labels = rng.integers(0, K, size=2)
        pairs.append(((unit(rng, lengths[0]), labels[0]), (unit(rng, lengths[1]), labels[1])))
    return pairs


@pytest.mark.parametrize("epsilon", [0.5, 2.0, 8.0])
def test_no_neighbours_are_farther_apart_than_the_promise_says(epsilon: float) -> None:
    spec, others = spec_of(epsilon), [(unit(np.random.default_rng(n)), n % K) for n in range(20)]
    found = [
        distance(sums_of([*others, one], spec), sums_of([*others, other], spec), spec)
        for one, other in neighbours()
    ]
    assert max(found) <= spec.mu
    # And the bound is reached, so nothing is given away: half the noise would break the promise.
    assert max(found) > 0.999 * spec.mu


@pytest.mark.parametrize("block", ["sums", "second", "diagonal", "sizes"])
def test_too_little_noise_in_any_block_would_be_seen(block: str) -> None:
    # What a planted fault would look like to the test above.
    spec = spec_of()
    worst = max(
        distance_with(sums_of([one], spec), sums_of([other], spec), spec, block)
        for one, other in neighbours()
    )
    assert worst > 1.05 * spec.mu


def distance_with(a: MomentSums, b: MomentSums, spec: ReleaseSpec, block: str) -> float:
    """The same with half of the noise in one block."""
    twice = {name: 2.0 if block == name else 1.0 for name in ("sums", "second", "sizes")}
    upper = np.triu_indices(P, 1)
    second = (a.second - b.second) * spec.grid**2 / spec.sigma
    diagonal = np.diag(second) / math.sqrt(2) * (2.0 if block == "diagonal" else 1.0)
    parts = [
        twice["sums"] * (a.sums - b.sums).ravel() * spec.grid / spec.sigma,
        twice["second"] * second[upper],
        diagonal,
        twice["sizes"] * (a.sizes - b.sizes) / (math.sqrt(2) * spec.sigma),
    ]
    return float(np.linalg.norm(np.concatenate(parts)))


def test_a_sample_more_or_less_moves_the_sums_by_at_most_the_square_root_of_two() -> None:
    spec, others = spec_of(), [(unit(np.random.default_rng(n)), n % K) for n in range(20)]
    found = [
        distance(sums_of(others, spec), sums_of([*others, one], spec), spec)
        for one, _ in neighbours()
    ]
    assert max(found) <= math.sqrt(2) / spec.sigma
    assert max(found) > 0.99 * math.sqrt(2) / spec.sigma


def test_add_remove_epsilon_of_known_ones() -> None:
    # Computed outside the product with the exact curve of the Gaussian mechanism.
    for epsilon, expected in ((1.0, 0.68), (2.0, 1.36), (4.0, 2.69), (8.0, 5.30)):
        replaced, add_remove = state_summed_release(spec_of(epsilon))
        assert replaced.epsilon == pytest.approx(epsilon)
        assert add_remove.relation == "add-remove"
        assert add_remove.epsilon == pytest.approx(expected, abs=0.005)


@pytest.mark.parametrize("epsilon", [0.05, 0.5, 2.0, 8.0, 500.0])
def test_noise_stands_on_the_lattice_of_the_sums_in_few_enough_steps(epsilon: float) -> None:
    spec = spec_of(epsilon)
    assert math.frexp(spec.grid)[0] == 0.5
    assert 0.5 <= spec.sigma / spec.grid**2 <= 2.0**18
    assert spec.sigma / spec.grid >= 0.5
    assert float(1 / spec.grid).is_integer()


def test_noise_that_leaves_nothing_of_a_row_is_refused() -> None:
    assert spec_of(3e-3).grid < 1
    with pytest.raises(UsageError, match="do not fit one float32 grid"):
        spec_of(1e-6)


def test_sums_are_exact_whatever_the_blocks_and_whatever_the_order() -> None:
    rng = np.random.default_rng(0)
    rows, labels = rng.normal(size=(500, P)), rng.integers(0, K, 500)
    spec = spec_of()
    whole = MomentSums(K, P, spec)
    whole.add_rows(rows, labels)
    parts = MomentSums(K, P, spec)
    for part in np.array_split(rng.permutation(500), 7):
        parts.add_rows(rows[part], labels[part])
    for name in ("sums", "second", "sizes"):
        assert np.array_equal(getattr(whole, name), getattr(parts, name))
    assert whole.samples == parts.samples == 500
    # Against plain arithmetic: rows were cut to the grid, towards zero, after the clip.
    cut = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1.0)
    cut = np.trunc(cut / spec.grid) * spec.grid
    assert np.allclose(whole.second * spec.grid**2, cut.T @ cut, atol=1e-9)
    assert np.allclose(whole.sums[1] * spec.grid, cut[labels == 1].sum(axis=0), atol=1e-9)


def test_noise_has_the_size_it_is_said_to_have() -> None:
    p = 150
    spec = spec_of(dimension=p)
    sums = MomentSums(K, p, spec)
    sums.add_rows(np.zeros((1, p)), np.array([0]))
    noise = released(sums, spec)
    assert np.array_equal(noise.second, noise.second.T)
    upper = noise.second[np.triu_indices(p, 1)]
    for found, expected in (
        (noise.sums.ravel(), spec.sigma),
        (upper, spec.sigma),
        (np.diag(noise.second), math.sqrt(2) * spec.sigma),
    ):
        # Five standard errors of a standard deviation.
        assert abs(found.std() / expected - 1) < 5 / math.sqrt(2 * found.size)
    sizes = np.concatenate([released(sums, spec, seed=seed).sizes[1:] for seed in range(200)])
    assert abs(sizes.std() / (math.sqrt(2) * spec.sigma) - 1) < 5 / math.sqrt(2 * sizes.size)
    # No block has the words of another: equal words would give equal signs.
    signs = np.sign(np.diag(noise.second)), np.sign(noise.sums[0]), np.sign(noise.second[0])
    for one in range(3):
        for other in range(one):
            assert abs(float(np.mean(signs[one] * signs[other]))) < 0.45


def test_the_same_release_has_the_same_bits_and_any_other_has_others() -> None:
    spec = spec_of()
    sums = sums_of([(unit(np.random.default_rng(1)), 0)], spec)
    first = released(sums, spec)
    again = released(sums, spec)
    assert np.array_equal(first.sums, again.sums)
    assert np.array_equal(first.second, again.second)
    assert np.array_equal(first.sizes, again.sizes)
    context = moments_context(FRONT, DATA, spec)
    key = MasterKey.from_seed(0)
    others = [
        noised_moments(sums, replace(context, front=DATA), key),
        noised_moments(sums, replace(context, data=FRONT), key),
        noised_moments(sums, context, MasterKey.from_seed(1)),
    ]
    for other in others:
        assert not np.array_equal(first.sums, other.sums)
        assert not np.array_equal(first.second, other.second)


def test_without_privacy_sums_are_those_of_clipped_rows() -> None:
    rng = np.random.default_rng(0)
    rows, labels = rng.normal(size=(50, P)) * 0.5, np.arange(50) % K
    sums = MomentSums(K, P, None)
    sums.add_rows(rows, labels)
    clipped = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1.0)
    assert np.allclose(sums.second, clipped.T @ clipped)
    assert np.allclose(sums.sums[2], clipped[labels == 2].sum(axis=0))
