"""The best test of membership in moments is sure without noise, and bounded with it."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from moments_cases import holder, spec_of
from numpy.typing import NDArray
from scipy.special import ndtr
from steal_cases import NUMBERS, K, delivered, front, pictures, trainer, truth

from clicooper_hpc.attacks.harness.adversary import AuxiliaryData, HeldMoments, LabelledImages
from clicooper_hpc.attacks.harness.attack import AttackResult
from clicooper_hpc.attacks.membership.membership_attack import MEMBERSHIP
from clicooper_hpc.attacks.membership.moments_membership import (
    informed_membership_scores,
    moments_of_rows,
)
from clicooper_hpc.attacks.toolbox.summed_rows import LabelledRows, summed_rows
from clicooper_hpc.privacy.ceiling import membership_ceiling
from clicooper_hpc.privacy.moments import Moments
from clicooper_hpc.privacy.release_spec import ReleaseSpec

TRAIN, TEST, AUX, PUBLIC = (pictures(n, i) for n, i in ((150, 1), (1500, 2), (1500, 3), (300, 4)))
GIVEN = truth(TRAIN, TEST, delivered(TRAIN, 0))
INFORMED, SAME, OTHER = (
    f"moments, {name}" for name in ("informed", "reference same", "reference public")
)
ONE = "true positives at 1.0% false positives"


def attacked(
    epsilon: float | None, seed: int = 0, noised_as: ReleaseSpec | None = None
) -> dict[tuple[str, str], AttackResult]:
    view = holder(TRAIN, epsilon, seed=seed, noised_as=noised_as)
    outcome = MEMBERSHIP.run(view, AuxiliaryData(AUX, PUBLIC), GIVEN, 0, 1.0)
    assert {one.variant for one in outcome.results} == {INFORMED, SAME, OTHER}
    assert ("bound" in outcome.arrays) == (epsilon is not None)
    return {(one.variant, one.metric): one for one in outcome.results}


def test_without_noise_every_member_is_told_by_whoever_knows_the_others() -> None:
    found = attacked(None)
    assert found[INFORMED, "AUC"].value == 1
    assert found[INFORMED, ONE].value == 1
    # And most of them by somebody who knows none of the samples.
    assert found[SAME, "AUC"].value > 0.9
    assert found[SAME, ONE].value > 0.2


def test_noise_keeps_every_attacker_below_the_ceiling() -> None:
    mu = spec_of(8.0).mu
    found = attacked(8.0)
    assert found[INFORMED, "AUC"].ceiling == pytest.approx(ndtr(mu / math.sqrt(2)))
    assert found[INFORMED, ONE].ceiling == pytest.approx(membership_ceiling(0.01, mu))
    assert all(one.low <= one.ceiling for one in found.values())
    # Pairs of like images are less than the sensitivity apart, so it stays clearly below.
    assert 0.55 < found[INFORMED, "AUC"].value < found[INFORMED, "AUC"].ceiling
    strict = attacked(0.5)
    assert abs(strict[INFORMED, "AUC"].value - 0.5) < 0.08
    assert abs(strict[SAME, "AUC"].value - 0.5) < 0.08


def test_too_little_noise_shows_as_a_figure_above_the_ceiling() -> None:
    spec = spec_of(2.0)
    found = attacked(2.0, noised_as=replace(spec, sigma=spec.sigma / 4))
    assert found[INFORMED, "AUC"].low > found[INFORMED, "AUC"].ceiling
    assert found[INFORMED, ONE].low > found[INFORMED, ONE].ceiling


def whole_vector(rows: NDArray[np.float64], label: int) -> NDArray[np.float64]:
    """T(x, y) number by number, in units in which all have the same noise."""
    sums = np.zeros((K, NUMBERS))
    sums[label] = rows
    return np.concatenate(
        [sums.ravel(), np.outer(rows, rows).ravel() / np.sqrt(2), np.eye(K)[label] / np.sqrt(2)]
    )


def test_the_statistic_is_the_log_likelihood_ratio_of_the_whole_release() -> None:
    view = holder(TRAIN, 2.0)
    assert view.moments is not None
    released, exact = view.moments.released, view.moments.exact
    images = LabelledImages(TRAIN.images[:3], TRAIN.classes[:3])
    others = LabelledImages(TEST.images[:3], TEST.classes[:3])
    slots, wanted, other = (
        summed_rows(view, images),
        summed_rows(view, images),
        summed_rows(view, others),
    )
    scores = informed_membership_scores(view.moments, slots, wanted, other)
    noise = np.concatenate(
        [
            (released.sums - exact.sums).ravel(),
            (released.second - exact.second).ravel() / np.sqrt(2),
            (released.sizes - exact.sizes) / np.sqrt(2),
        ]
    )
    for index, score in enumerate(scores):
        here, there = (
            whole_vector(one.rows[index], int(one.classes[index])) for one in (wanted, other)
        )
        left = noise + here
        # log N(left; here) - log N(left; there), with one sigma in every number.
        ratio = np.square(left - there).sum() - np.square(left - here).sum()
        assert score == pytest.approx(ratio / (2 * released.sigma**2))


def test_on_the_worst_pairs_it_reaches_what_the_guarantee_allows() -> None:
    """Opposite rows of one class in every direction: scores are N(mu^2 / 2, mu^2)."""
    spec = spec_of(8.0)
    zero = np.zeros(NUMBERS, dtype=np.int64)
    rows = LabelledRows(np.eye(NUMBERS), zero)
    opposite = LabelledRows(-np.eye(NUMBERS), zero)
    scores = []
    for seed in range(6):
        held = holder(TRAIN, 8.0, seed=seed).moments
        assert held is not None
        scores.append(informed_membership_scores(held, rows, rows, opposite))
    values = np.concatenate(scores)
    error = spec.mu / math.sqrt(len(values))
    assert abs(values.mean() - spec.mu**2 / 2) < 4 * error
    assert abs(values.std() / spec.mu - 1) < 4 / math.sqrt(2 * len(values))


def test_moments_of_others_tell_nothing_to_whoever_has_a_reference() -> None:
    view = holder(pictures(150, 9), None)
    # The informed attacker is not asked: the samples it takes off are not there.
    outcome = MEMBERSHIP.run(view, AuxiliaryData(AUX, None), GIVEN, 0, 1.0)
    found = {(one.variant, one.metric): one for one in outcome.results}
    assert abs(found[SAME, "AUC"].value - 0.5) < 0.08


def test_recoloured_rows_tell_what_is_left_of_the_moments() -> None:
    """Rows that are the samples themselves: whoever got them may as well hold the moments."""
    rows = front(TRAIN.images)
    order = np.array([1, 3, 0, 2], dtype=np.int32)
    found = moments_of_rows(rows, order[TRAIN.classes], K, len(TRAIN), 0.5)
    exact = holder(TRAIN, None).moments
    assert exact is not None
    assert np.allclose(found.sums[order], exact.released.sums, atol=1e-4)
    assert np.allclose(found.second, exact.released.second, atol=1e-4)
    assert np.allclose(found.sizes[order], exact.released.sizes)
    assert (found.samples, found.sigma) == (len(TRAIN), 0.5)
    # Twice the rows are the same moments.
    twice = moments_of_rows(np.tile(rows, (2, 1)), np.tile(order[TRAIN.classes], 2), K, 150, 0.5)
    assert np.allclose(twice.sums, found.sums, atol=1e-4)
    view = replace(
        trainer(TRAIN, 0.0),
        groups=np.empty((len(TRAIN), 0), dtype=np.int64),
        sub_label_count=K,
        sub_labels=order[TRAIN.classes],
        release="moments",
        samples=len(TRAIN),
        segments={},
    )
    assert MEMBERSHIP.applies(view) is None
    outcome = MEMBERSHIP.run(view, AuxiliaryData(AUX, PUBLIC), GIVEN, 0, 1.0)
    auc = {one.variant: one.value for one in outcome.results if one.metric == "AUC"}
    assert set(auc) == {"recoloured rows, reference same", "recoloured rows, reference public"}
    assert auc["recoloured rows, reference same"] > 0.8
    # Public rows under the same map are nobody's.
    other = replace(view, rows=front(pictures(150, 9).images))
    outcome = MEMBERSHIP.run(other, AuxiliaryData(AUX, None), GIVEN, 0, 1.0)
    assert abs(outcome.results[0].value - 0.5) < 0.08


def test_held_moments_differ_by_the_noise_alone() -> None:
    held = holder(TRAIN, 2.0).moments
    assert isinstance(held, HeldMoments)
    assert isinstance(held.released, Moments)
    assert held.exact.sizes.sum() == len(TRAIN)
    noise = (held.released.sums - held.exact.sums).std()
    assert noise == pytest.approx(spec_of(2.0).sigma, rel=0.2)
    off = holder(TRAIN, None).moments
    assert off is not None
    assert np.array_equal(off.released.sums, off.exact.sums)
