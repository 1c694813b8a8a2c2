"""The best test of membership in released sums is sure without noise, and bounded with it."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import ndtr
from steal_cases import NUMBERS, K, delivered, front, pictures, trainer, truth
from summed_cases import MODES, holder, spec_of

from clicooper_hpc.attacks.harness.adversary import AuxiliaryData, LabelledImages
from clicooper_hpc.attacks.harness.attack import AttackResult
from clicooper_hpc.attacks.membership.membership_attack import MEMBERSHIP
from clicooper_hpc.attacks.membership.summed_membership import informed_membership_scores
from clicooper_hpc.attacks.toolbox.named_rows import named_release
from clicooper_hpc.attacks.toolbox.summed_rows import LabelledRows, summed_rows
from clicooper_hpc.config.owner_sections import ReleaseMode
from clicooper_hpc.privacy.ceiling import membership_ceiling
from clicooper_hpc.privacy.release_spec import ReleaseSpec

TRAIN, TEST, AUX, PUBLIC = (pictures(n, i) for n, i in ((150, 1), (1500, 2), (1500, 3), (300, 4)))
GIVEN = truth(TRAIN, TEST, delivered(TRAIN, 0))
INFORMED, SAME, OTHER = ("informed", "reference same", "reference public")
ONE = "true positives at 1.0% false positives"


def attacked(
    epsilon: float | None,
    mode: ReleaseMode,
    seed: int = 0,
    noised_as: ReleaseSpec | None = None,
) -> dict[tuple[str, str], AttackResult]:
    view = holder(TRAIN, epsilon, mode=mode, seed=seed, noised_as=noised_as)
    outcome = MEMBERSHIP.run(view, AuxiliaryData(AUX, PUBLIC), GIVEN, 0, 1.0)
    variants = {one.variant for one in outcome.results}
    assert variants == {f"{mode}, {name}" for name in (INFORMED, SAME, OTHER)}
    assert ("bound" in outcome.arrays) == (epsilon is not None)
    return {(one.variant.split(", ")[1], one.metric): one for one in outcome.results}


@pytest.mark.parametrize("mode", MODES)
def test_without_noise_every_member_is_told_by_whoever_knows_the_others(mode: ReleaseMode) -> None:
    found = attacked(None, mode)
    assert found[INFORMED, "AUC"].value == 1
    assert found[INFORMED, ONE].value == 1
    # And most of them by somebody who knows none of the samples.
    # Class sums alone say less of a sample than with the second moment beside them.
    assert found[SAME, "AUC"].value > (0.9 if mode == "moments" else 0.75)
    assert found[SAME, ONE].value > (0.2 if mode == "moments" else 0.05)


@pytest.mark.parametrize("mode", MODES)
def test_noise_keeps_every_attacker_below_the_ceiling(mode: ReleaseMode) -> None:
    mu = spec_of(8.0, mode=mode).mu
    found = attacked(8.0, mode)
    assert found[INFORMED, "AUC"].ceiling == pytest.approx(ndtr(mu / math.sqrt(2)))
    assert found[INFORMED, ONE].ceiling == pytest.approx(membership_ceiling(0.01, mu))
    assert all(one.low <= one.ceiling for one in found.values())
    # Pairs of like images are less than the sensitivity apart, so it stays clearly below.
    assert 0.55 < found[INFORMED, "AUC"].value < found[INFORMED, "AUC"].ceiling
    strict = attacked(0.5, mode)
    assert abs(strict[INFORMED, "AUC"].value - 0.5) < 0.08
    assert abs(strict[SAME, "AUC"].value - 0.5) < 0.08


@pytest.mark.parametrize("mode", MODES)
def test_too_little_noise_shows_as_a_figure_above_the_ceiling(mode: ReleaseMode) -> None:
    spec = spec_of(2.0, mode=mode)
    found = attacked(2.0, mode, noised_as=replace(spec, sigma=spec.sigma / 4))
    assert found[INFORMED, "AUC"].low > found[INFORMED, "AUC"].ceiling
    assert found[INFORMED, ONE].low > found[INFORMED, ONE].ceiling


def whole_vector(row: NDArray[np.float64], label: int, mode: ReleaseMode) -> NDArray[np.float64]:
    """T(x, y) number by number, in units in which all have the same noise."""
    sums = np.zeros((K, NUMBERS))
    sums[label] = row
    if mode == "sums":
        return sums.ravel()
    return np.concatenate(
        [sums.ravel(), np.outer(row, row).ravel() / np.sqrt(2), np.eye(K)[label] / np.sqrt(2)]
    )


@pytest.mark.parametrize("mode", MODES)
def test_the_statistic_is_the_log_likelihood_ratio_of_the_whole_release(mode: ReleaseMode) -> None:
    view = holder(TRAIN, 2.0, mode=mode)
    assert view.held is not None
    released = view.held.released
    images = LabelledImages(TRAIN.images[:3], TRAIN.classes[:3])
    others = LabelledImages(TEST.images[:3], TEST.classes[:3])
    slots, wanted, other = (
        summed_rows(view, images),
        summed_rows(view, images),
        summed_rows(view, others),
    )
    scores = informed_membership_scores(view.held, slots, wanted, other)
    left_over = released.less(view.held.exact)
    parts = [left_over.sums.ravel()]
    if left_over.second is not None and left_over.sizes is not None:
        parts += [left_over.second.ravel() / np.sqrt(2), left_over.sizes / np.sqrt(2)]
    noise = np.concatenate(parts)
    for index, score in enumerate(scores):
        here, there = (
            whole_vector(one.rows[index], int(one.classes[index]), mode) for one in (wanted, other)
        )
        left = noise + here
        # log N(left; here) - log N(left; there), with one sigma in every number.
        ratio = np.square(left - there).sum() - np.square(left - here).sum()
        assert score == pytest.approx(ratio / (2 * released.sigma**2))


@pytest.mark.parametrize("mode", MODES)
def test_on_the_worst_pairs_it_reaches_what_the_guarantee_allows(mode: ReleaseMode) -> None:
    """Opposite rows of one class in every direction: scores are N(mu^2 / 2, mu^2)."""
    spec = spec_of(8.0, mode=mode)
    zero = np.zeros(NUMBERS, dtype=np.int64)
    rows = LabelledRows(np.eye(NUMBERS), zero)
    opposite = LabelledRows(-np.eye(NUMBERS), zero)
    scores = []
    for seed in range(6):
        held = holder(TRAIN, 8.0, mode=mode, seed=seed).held
        assert held is not None
        scores.append(informed_membership_scores(held, rows, rows, opposite))
    values = np.concatenate(scores)
    error = spec.mu / math.sqrt(len(values))
    assert abs(values.mean() - spec.mu**2 / 2) < 4 * error
    assert abs(values.std() / spec.mu - 1) < 4 / math.sqrt(2 * len(values))


@pytest.mark.parametrize("mode", MODES)
def test_sums_of_others_tell_nothing_to_whoever_has_a_reference(mode: ReleaseMode) -> None:
    view = holder(pictures(150, 9), None, mode=mode)
    # The informed attacker is not asked: the samples it takes off are not there.
    outcome = MEMBERSHIP.run(view, AuxiliaryData(AUX, None), GIVEN, 0, 1.0)
    found = {(one.variant.split(", ")[1], one.metric): one for one in outcome.results}
    assert abs(found[SAME, "AUC"].value - 0.5) < 0.08


@pytest.mark.parametrize("mode", MODES)
def test_recoloured_rows_tell_what_is_left_of_the_sums(mode: ReleaseMode) -> None:
    """Rows that are the samples themselves: whoever got them may as well hold the sums."""
    order = np.array([1, 3, 0, 2], dtype=np.int32)
    names = order[TRAIN.classes]
    view = replace(
        trainer(TRAIN, 0.0),
        groups=np.empty((len(TRAIN), 0), dtype=np.int64),
        sub_label_count=K,
        sub_labels=names,
        release=mode,
        samples=len(TRAIN),
        segments={},
    )
    found, held = named_release(view), holder(TRAIN, None, mode=mode).held
    assert held is not None
    assert np.allclose(found.sums[order], held.exact.sums, atol=1e-4)
    assert found.sizes is not None
    assert found.sizes[order].tolist() == np.bincount(TRAIN.classes).tolist()
    if held.exact.second is None:
        # The covariance is that of public rows, which say nothing of samples.
        assert found.second is None
    else:
        assert found.second is not None
        assert np.allclose(found.second, held.exact.second, atol=1e-4)
    # Mixes of the rows are left out: they have these moments only nearly.
    mixed = replace(view, rows=np.tile(view.rows, (2, 1)), sub_labels=np.tile(names, 2), mixes=1)
    assert np.allclose(named_release(mixed).sums, found.sums)
    assert MEMBERSHIP.applies(view) is None
    outcome = MEMBERSHIP.run(view, AuxiliaryData(AUX, PUBLIC), GIVEN, 0, 1.0)
    auc = {one.variant: one.value for one in outcome.results if one.metric == "AUC"}
    rows = "recoloured rows, reference same"
    assert {rows, "recoloured rows, reference public", "names, reference same"} == set(auc)
    assert auc[rows] > (0.8 if mode == "moments" else 0.6)
    # Public rows under the same map are nobody's.
    other = replace(view, rows=front(pictures(150, 9).images))
    outcome = MEMBERSHIP.run(other, AuxiliaryData(AUX, None), GIVEN, 0, 1.0)
    assert abs(outcome.results[0].value - 0.5) < 0.08


@pytest.mark.parametrize("mode", MODES)
def test_held_sums_differ_by_the_noise_alone(mode: ReleaseMode) -> None:
    held = holder(TRAIN, 2.0, mode=mode).held
    assert held is not None
    noise = (held.released.sums - held.exact.sums).std()
    assert noise == pytest.approx(spec_of(2.0, mode=mode).sigma, rel=0.2)
    off = holder(TRAIN, None, mode=mode).held
    assert off is not None
    assert np.array_equal(off.released.sums, off.exact.sums)
    if held.exact.sizes is not None:
        assert held.exact.sizes.sum() == len(TRAIN)
