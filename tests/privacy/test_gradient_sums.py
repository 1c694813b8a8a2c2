"""Sums of gradients: exact, of sensitivity 2 and 1, and one promise together with moments."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from clicooper_hpc.digests import digest_bytes
from clicooper_hpc.errors import DataError, UsageError
from clicooper_hpc.privacy.accounting import Charge, compose_charges
from clicooper_hpc.privacy.both_relations import state_summed_release
from clicooper_hpc.privacy.gradient_sums import (
    GradientSum,
    SplitPromise,
    noised_gradient_sum,
    round_context,
    solve_split_promise,
)
from clicooper_hpc.privacy.master_key import MasterKey
from clicooper_hpc.privacy.noise import ReleaseContext

K, P = 4, 12
FRONT, DATA, MODEL = (digest_bytes("test", name) for name in (b"front", b"data", b"model"))
Part = tuple[NDArray[np.float64], NDArray[np.float64]]


def promise_of(
    epsilon: float = 2.0, *, rounds: int = 20, share: float = 0.5, classes: int = K
) -> SplitPromise:
    return solve_split_promise(P, classes, epsilon=epsilon, delta=1e-5, rounds=rounds, share=share)


def sum_of(parts: list[Part], promise: SplitPromise) -> GradientSum:
    total = GradientSum(P + 1, K, promise.gradients)
    if parts:
        total.add_gradients(np.stack([x for x, _ in parts]), np.stack([r for _, r in parts]))
    return total


def distance(a: GradientSum, b: GradientSum, promise: SplitPromise) -> float:
    steps = a.lattice_sum() - b.lattice_sum()
    return float(np.linalg.norm(steps) * promise.gradients.grid)


def unit(rng: np.random.Generator, size: int, length: float = 1.0) -> NDArray[np.float64]:
    row = rng.normal(size=size)
    return np.asarray(row * (length / np.linalg.norm(row)))


def parts(count: int, seed: int = 0) -> list[Part]:
    rng = np.random.default_rng(seed)
    return [(unit(rng, P + 1), unit(rng, K)) for _ in range(count)]


def neighbours() -> list[tuple[Part, Part]]:
    """Worst cases: the outer products are opposite; a changed label; too long; many others."""
    rng = np.random.default_rng(3)
    x, spread = np.eye(P + 1)[0], np.ones(P + 1) / math.sqrt(P + 1)
    r = np.array([1.0, -1.0, 0.0, 0.0])
    pairs: list[tuple[Part, Part]] = [
        ((x, r), (-x, r)),
        # The same row, and a residual that a changed label turns round.
        ((x, r), (x, -r)),
        ((spread, r), (-spread, r)),
        ((50 * x, 50 * r), (-50 * x, 50 * r)),
    ]
    for _ in range(200):
        lengths = rng.choice([0.3, 1.0, 1.0, 7.0], size=4)
        one, other = (
            (unit(rng, P + 1, lengths[i]), unit(rng, K, lengths[i + 2])) for i in range(2)
        )
        pairs.append((one, other))
    return pairs


@pytest.mark.parametrize("epsilon", [0.2, 2.0, 8.0])
def test_no_neighbours_are_farther_apart_than_2_and_the_worst_nearly_are(epsilon: float) -> None:
    promise, others = promise_of(epsilon), parts(20)
    found = [
        distance(sum_of([*others, one], promise), sum_of([*others, other], promise), promise)
        for one, other in neighbours()
    ]
    assert max(found) <= 2
    # Twice what a sample adds: noise for C alone would break the promise.
    assert max(found) > 2 * (1 - 0.02 / epsilon) - 0.01


def test_a_sample_more_or_less_moves_a_sum_by_at_most_1() -> None:
    promise, others = promise_of(), parts(20)
    without = sum_of(others, promise)
    found = [distance(without, sum_of([*others, one], promise), promise) for one, _ in neighbours()]
    assert 0.97 < max(found) <= 1


def test_rounding_to_a_coarse_lattice_is_paid_for() -> None:
    """So much noise that its lattice is a good part of the bound: sums still keep within 2."""
    promise, rng = promise_of(0.03), np.random.default_rng(0)
    assert promise.gradients.grid * math.sqrt((P + 1) * K) > 0.05
    for seed in range(50):
        others, ((x, r),) = parts(5, seed), parts(1, seed + 1000)
        moved = [(x, r), (-x, r)] if rng.integers(2) else [(x, r), (x, -r)]
        one, other = (sum_of([*others, part], promise) for part in moved)
        assert distance(one, other, promise) <= 2


@pytest.mark.parametrize("epsilon", [0.2, 2.0, 8.0])
@pytest.mark.parametrize(("rounds", "share"), [(1, 0.5), (20, 0.5), (30, 0.7), (100, 0.05)])
def test_moments_and_rounds_cost_the_promise_together_and_no_more(
    epsilon: float, rounds: int, share: float
) -> None:
    promise = promise_of(epsilon, rounds=rounds, share=share)
    charges = [promise.moments.charge(), *[promise.gradients.charge()] * rounds]
    spent = compose_charges(charges, 1e-5)
    assert epsilon * (1 - 1e-9) < spent[0] <= epsilon
    assert spent[1] == 1e-5
    # By hand, not by the product's own composition.
    gradients = rounds * (2 / promise.gradients.sigma) ** 2
    total = (2 / promise.moments.sigma) ** 2 + gradients
    assert total == pytest.approx((2 / promise.whole.sigma) ** 2, rel=1e-9)
    assert gradients / total == pytest.approx(share, rel=1e-9)
    # One round that is charged once and made twice is beyond it.
    assert compose_charges([*charges, promise.gradients.charge()], 1e-5)[0] > epsilon


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_add_remove_is_that_of_moments_and_rounds_together(share: float) -> None:
    promise = promise_of(share=share)
    parts = [Charge.gaussian(math.sqrt(2) / promise.moments.sigma)]
    parts += [Charge.gaussian(1 / promise.gradients.sigma)] * 20
    expected = compose_charges(parts, 1e-5)[0]
    with_rounds, without = (
        next(one.epsilon for one in stated if one.relation == "add-remove")
        for stated in (
            state_summed_release(promise.whole, gradient_share=share),
            state_summed_release(promise.whole),
        )
    )
    assert with_rounds == pytest.approx(expected, rel=1e-6)
    assert with_rounds is not None
    assert without is not None
    assert with_rounds < without


def test_sums_are_exact_whatever_the_blocks() -> None:
    promise, rng = promise_of(), np.random.default_rng(0)
    rows, residuals = rng.normal(size=(500, P + 1)), rng.normal(size=(500, K)) * 0.3
    whole, split = (GradientSum(P + 1, K, promise.gradients) for _ in range(2))
    whole.add_gradients(rows, residuals)
    for part in np.array_split(rng.permutation(500), 7):
        split.add_gradients(rows[part], residuals[part])
    assert np.array_equal(whole.lattice_sum(), split.lattice_sum())
    # Against plain arithmetic: clipped, and nearly as they are.
    bound = 1 - promise.gradients.grid * math.sqrt((P + 1) * K)
    x = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True) / bound, 1)
    r = residuals / np.maximum(np.linalg.norm(residuals, axis=1, keepdims=True), 1)
    off = whole.lattice_sum() * promise.gradients.grid - x.T @ r
    assert np.abs(off).max() < 500 * 2 * 2.0**-12
    plain = GradientSum(P + 1, K, None)
    plain.add_gradients(rows, residuals)
    one = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1)
    assert np.allclose(plain.plain_sum(), one.T @ r)


def test_probabilities_of_many_classes_are_not_cut_to_nothing() -> None:
    classes = 100
    promise = promise_of(classes=classes)
    total = GradientSum(P + 1, classes, promise.gradients)
    rows = np.tile(np.eye(P + 1)[0] * 0.9, (1000, 1))
    total.add_gradients(rows, np.full((1000, classes), 0.005))
    found = total.lattice_sum()[0] * promise.gradients.grid
    assert np.allclose(found, 0.9 * 5, rtol=0.06)


def test_what_is_no_number_is_refused() -> None:
    total = GradientSum(P + 1, K, promise_of().gradients)
    bad = np.full((1, K), np.nan)
    with pytest.raises(DataError):
        total.add_gradients(np.zeros((1, P + 1)), bad)
    assert not total.lattice_sum().any()


def test_privacy_on_and_off_are_not_mixed_up() -> None:
    with pytest.raises(ValueError, match="needs its noise"):
        GradientSum(P + 1, K, promise_of().gradients).plain_sum()
    with pytest.raises(ValueError, match="no lattice"):
        GradientSum(P + 1, K, None).lattice_sum()


def noised(context: ReleaseContext, seed: int = 0) -> NDArray[np.float64]:
    return noised_gradient_sum(sum_of(parts(3), promise_of()), context, MasterKey.from_seed(seed))


def test_another_round_or_model_never_meets_the_same_noise() -> None:
    spec = promise_of().gradients
    context = round_context(3, MODEL, FRONT, DATA, spec)
    first = noised(context)
    assert np.array_equal(first, noised(context))
    others = [
        noised(round_context(4, MODEL, FRONT, DATA, spec)),
        noised(round_context(3, DATA, FRONT, DATA, spec)),
        noised(replace(context, front=DATA)),
        noised(replace(context, data=FRONT)),
        noised(context, seed=1),
    ]
    for other in others:
        # The sums are the same: equal noise anywhere would show as an equal number.
        assert not np.any(first == other)


def test_noise_has_the_size_it_is_said_to_have() -> None:
    spec, wide = promise_of(classes=150).gradients, 150
    total = GradientSum(wide, wide, spec)
    context = round_context(1, MODEL, FRONT, DATA, spec)
    noise = noised_gradient_sum(total, context, MasterKey.from_seed(0)).ravel()
    assert abs(noise.std() / spec.sigma - 1) < 5 / math.sqrt(2 * noise.size)
    assert np.array_equal(np.rint(noise / spec.grid) * spec.grid, noise)


def test_a_promise_that_rounds_cannot_fill_is_refused() -> None:
    with pytest.raises(UsageError, match="coarser than the gradients"):
        solve_split_promise(1024, 500, epsilon=0.03, delta=1e-5, rounds=20, share=0.5)
    with pytest.raises(UsageError, match="epsilon is 0"):
        solve_split_promise(P, K, epsilon=1e-2, delta=1e-2, rounds=1000, share=0.01)
