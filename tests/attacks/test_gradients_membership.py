"""Rounds of gradients add to the best test of membership what they tell, and no more."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import ndtr
from sklearn.metrics import roc_auc_score

from clicooper_hpc.attacks.harness.summed_release import HeldRounds
from clicooper_hpc.attacks.membership.gradients_membership import (
    informed_rounds_scores,
    repeated_rounds_noise,
)
from clicooper_hpc.attacks.toolbox.summed_rows import LabelledRows
from clicooper_hpc.owner.gradient_rounds import OwnerRows, gradient_factors, sum_gradients
from clicooper_hpc.owner.moment_model import MomentModel
from clicooper_hpc.privacy.gradient_sums import GradientSum, solve_split_promise
from clicooper_hpc.privacy.release_spec import ReleaseSpec

ROUNDS, WIDTH, K = 3, 6, 3
PROMISE = solve_split_promise(WIDTH, K, epsilon=8.0, delta=1e-5, rounds=ROUNDS, share=0.5)
RANDOM = np.random.default_rng(0)
MODELS = tuple(MomentModel(RANDOM.normal(0, 2, (WIDTH, K)), np.zeros(K)) for _ in range(ROUNDS))


def drawn(count: int, seed: int) -> LabelledRows:
    rng = np.random.default_rng(seed)
    rows = rng.normal(0, 1, (count, WIDTH))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return LabelledRows(rows, rng.integers(0, K, count))


def held(samples: LabelledRows, spec: ReleaseSpec | None, seed: int) -> HeldRounds:
    owned = OwnerRows(samples.rows.astype(np.float32), samples.classes)
    sums = [sum_gradients(owned, model, spec) for model in MODELS]
    exact = np.stack(
        [one.plain_sum() if spec is None else one.lattice_sum() * spec.grid for one in sums]
    )
    sigma = 0.0 if spec is None else spec.sigma
    noise = np.random.default_rng(seed).normal(0, 1, exact.shape) * sigma
    return HeldRounds(MODELS, exact + noise, exact, spec)


def auc_of(spec: ReleaseSpec | None) -> float:
    """AUC of an attacker who knows all samples but one, with fresh noise for each question."""
    there, away = drawn(1500, 1), drawn(1500, 2)
    member = np.arange(1500) % 2 == 0
    slots = LabelledRows(
        np.where(member[:, np.newaxis], there.rows, away.rows),
        np.where(member, there.classes, away.classes),
    )
    rounds = held(there, spec, 3)
    scores = np.empty(1500)
    noises = [*repeated_rounds_noise(rounds, 0)]
    assert len(noises) == (1 if spec is None else 64)
    for number, noise in enumerate(noises):
        at = np.flatnonzero(np.arange(1500) % len(noises) == number)
        parts = (one.take(at) for one in (slots, there, away))
        scores[at] = informed_rounds_scores(rounds, noise, *parts)
    return float(roc_auc_score(member, scores))


def test_without_noise_every_member_is_told() -> None:
    assert auc_of(None) == 1


def test_with_noise_it_is_below_what_the_rounds_allow_and_above_it_with_too_little() -> None:
    spec = PROMISE.gradients
    # What rounds alone allow; an AUC of 750 against 750 has a standard error below 0.015.
    allowed = float(ndtr(math.sqrt(ROUNDS) * 2 / spec.sigma / math.sqrt(2)))
    assert 0.6 < auc_of(spec) < allowed + 4 * 0.015
    assert auc_of(replace(spec, sigma=spec.sigma / 4)) > allowed + 4 * 0.015


def test_the_statistic_is_the_log_likelihood_ratio_of_all_rounds() -> None:
    spec = PROMISE.gradients
    samples, others = drawn(20, 4), drawn(20, 5)
    rounds = held(samples, spec, 6)
    noise = rounds.released - rounds.exact
    scores = informed_rounds_scores(rounds, noise, samples, samples, others)

    def gradients(one: LabelledRows, at: int) -> NDArray[np.float64]:
        """Each gradient as it is summed up, number by number."""
        alone = one.take(np.array([at]))
        made = []
        for model in MODELS:
            total = GradientSum(WIDTH + 1, K, spec)
            row, residual = total.clipped_factors(
                *gradient_factors(alone.rows, alone.classes, model)
            )
            total.add_gradients(*gradient_factors(alone.rows, alone.classes, model))
            made.append(row.T @ residual)
            # Rounded down to the lattice of the noise, and otherwise these.
            assert np.abs(made[-1] - total.lattice_sum() * spec.grid).max() <= spec.grid
        return np.stack(made)

    for at, score in enumerate(scores):
        here, there = gradients(samples, at), gradients(others, at)
        seen = noise + here
        ratio = (np.square(seen - there) - np.square(seen - here)).sum() / (2 * spec.sigma**2)
        assert score == pytest.approx(ratio, rel=1e-9)
