"""Membership is plain in clean rows and over-fitted networks, and at chance without information."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import ndtr, ndtri
from sklearn.metrics import roc_auc_score
from steal_cases import delivered, mechanism, outsider, pictures, trainer, truth

from clicooper_hpc.attacks.harness.adversary import AdversaryView, AuxiliaryData, GroundTruth
from clicooper_hpc.attacks.harness.attack import AttackResult
from clicooper_hpc.attacks.membership.membership_attack import MEMBERSHIP, score_membership
from clicooper_hpc.attacks.membership.release_membership import release_membership_scores
from clicooper_hpc.attacks.toolbox.confidence_interval import clopper_pearson_interval
from clicooper_hpc.privacy.ceiling import membership_ceiling

# Three labels in ten are drawn blindly, so that a network can only learn them by heart.
TRAIN, TEST, AUX = (pictures(n, i, wrong=0.3) for n, i in ((600, 1), (1200, 2), (1500, 3)))
FEW, ONE = "true positives at 0.1% false positives", "true positives at 1.0% false positives"
RELEASE = ("released rows, all rows", "released rows, best row")
NETWORK = ("network, confidence", "network, loss", "network, LiRA")


def attacked(view: AdversaryView, given: GroundTruth) -> dict[tuple[str, str], AttackResult]:
    outcome = MEMBERSHIP.run(view, AuxiliaryData(AUX, None), given, 0, 0.3)
    curves = dict(outcome.arrays)
    if np.isfinite(view.mechanism.mu):
        rates, bound = curves.pop("bound")
        mu = view.mechanism.mu * (1 if view.mechanism.relation == "replace-one" else 2)
        np.testing.assert_allclose(bound, ndtr(ndtri(rates) + mu))
    assert set(curves) == {f"roc {one.variant}" for one in outcome.results}
    return {(one.variant, one.metric): one for one in outcome.results}


GIVEN = truth(TRAIN, TEST, delivered(TRAIN, 0))


def test_rows_without_noise_give_every_member_away() -> None:
    found = attacked(trainer(TRAIN, 0.0), GIVEN)
    for variant in RELEASE:
        assert found[variant, "AUC"].value > 0.99
        assert found[variant, FEW].value > 0.95
    assert found[RELEASE[0], FEW].baseline == 0.001


def test_noise_takes_membership_to_chance_below_its_ceiling() -> None:
    found = [attacked(trainer(TRAIN, sigma), GIVEN) for sigma in (0.05, 0.3, 4.0)]
    auc = [one[RELEASE[0], "AUC"].value for one in found]
    assert auc[0] > 0.95
    assert auc[0] > auc[1] > 0.52
    assert abs(auc[2] - 0.5) < 0.05
    for one in found:
        assert all(finding.low <= finding.ceiling for finding in one.values())
    strict = found[2][RELEASE[0], ONE]
    assert strict.ceiling == pytest.approx(membership_ceiling(0.01, 0.5))
    assert found[2][RELEASE[0], "AUC"].ceiling == pytest.approx(ndtr(0.5 / np.sqrt(2)))


def test_means_of_rows_still_give_members_away_without_noise() -> None:
    found = attacked(trainer(TRAIN, 0.0, group=2), GIVEN)
    assert found[RELEASE[0], "AUC"].value > 0.9


def test_rows_of_others_are_at_chance() -> None:
    view = trainer(TRAIN, 0.0)
    found = attacked(replace(view, rows=trainer(pictures(600, 9), 0.0).rows), GIVEN)
    assert abs(found[RELEASE[0], "AUC"].value - 0.5) < 0.06
    assert found[RELEASE[0], FEW].value < 0.02


def test_the_statistic_of_one_row_is_the_likelihood_ratio() -> None:
    """One number, one row: the score must be log N(z; r, s^2) - log N(z; 0, s^2 + 1) to the end."""
    rng = np.random.default_rng(0)
    population = rng.normal(size=(20_000, 1)).astype(np.float32)
    population = (population - population.mean()) / population.std(ddof=1)
    row, targets = np.array([[0.7]], dtype=np.float32), np.array([[1.5], [-0.2]], dtype=np.float32)
    found = release_membership_scores(row, targets, population, sigma=0.5, group=1, seed=0)[
        "all rows"
    ]
    inside = -((0.7 - targets[:, 0]) ** 2) / (2 * 0.25) - 0.5 * np.log(0.25)
    outside = -(0.7**2) / (2 * 1.25) - 0.5 * np.log(1.25)
    assert found == pytest.approx(inside - outside, abs=1e-3)


def test_a_network_that_learnt_by_heart_gives_members_away() -> None:
    segments = delivered(TRAIN, 100)
    found = attacked(outsider(segments), truth(TRAIN, TEST, segments))
    for variant in NETWORK:
        assert found[variant, "AUC"].value > 0.6
    assert found["network, LiRA", "AUC"].value > 0.7
    assert not [key for key in found if key[0] in RELEASE]


def test_a_secret_front_leaves_the_black_box() -> None:
    segments = delivered(TRAIN, 100)
    found = attacked(outsider(segments, public=False), truth(TRAIN, TEST, segments))
    assert found["network, loss", "AUC"].value > 0.6


def test_a_network_that_never_saw_them_is_at_chance() -> None:
    """Same test, trained on others: what tells members of this set apart must not show."""
    members = pictures(600, 21, wrong=0.3)
    segments = delivered(pictures(600, 22, wrong=0.3), 30)
    found = attacked(outsider(segments), truth(members, TEST, segments))
    for variant in NETWORK:
        assert abs(found[variant, "AUC"].value - 0.5) < 0.06


def test_a_guarantee_against_the_zero_row_counts_twice() -> None:
    member = np.arange(200) < 100
    values = {"x": np.random.default_rng(0).normal(size=200)}
    view = replace(trainer(TRAIN, 4.0), mechanism=mechanism(4.0, "zero-out"))
    found = score_membership(values, member, view, 0)
    assert found[2].ceiling == pytest.approx(membership_ceiling(0.01, 2 * 0.25))


def test_true_positives_are_counted_above_the_threshold_of_non_members() -> None:
    member = np.repeat([True, False], [4, 1000])
    values = np.concatenate([[5.0, 0.995, 0.98, -1], np.arange(1000) / 1000])
    found = {
        one.metric: one for one in score_membership({"x": values}, member, trainer(TRAIN, 1.0), 0)
    }
    assert found[ONE].value == 0.5  # ten non-members may lie above 0.989
    assert found[FEW].value == 0.25
    low, high = clopper_pearson_interval(2, 4)
    assert found[ONE].high == high
    # Ten of a thousand above it by chance: at the same threshold it may be as many of 100 as 1.8.
    assert 0.5 * low < found[ONE].low < low


def test_few_others_set_a_threshold_that_proves_nothing() -> None:
    """Exactly as strong as the bound, 60 times: hardly ever is it said to be above."""
    rng, mu = np.random.default_rng(0), 1.0
    view = replace(trainer(TRAIN, 1.0), mechanism=replace(mechanism(2.0), mu=mu))
    member = np.repeat([True, False], [80, 180])
    wrong = 0
    for _ in range(60):
        values = np.concatenate([rng.normal(mu, 1, 80), rng.normal(0, 1, 180)])
        found = score_membership({"x": values}, member, view, 0)[1:]
        wrong += any(one.low > one.ceiling for one in found)
    assert wrong < 4


def test_the_area_is_that_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    member, values = rng.random(300) < 0.4, np.round(rng.normal(size=300), 1)
    found = score_membership({"x": values}, member, trainer(TRAIN, 1.0), 0)[0]
    assert found.value == pytest.approx(roc_auc_score(member, values))


def test_ties_are_no_detection() -> None:
    member = np.repeat([True, False], 500)
    found = {
        one.metric: one
        for one in score_membership({"x": np.ones(1000)}, member, trainer(TRAIN, 1.0), 0)
    }
    assert found["AUC"].value == 0.5
    assert found[ONE].value == 0


def test_who_has_neither_shadow_rows_nor_the_network_is_told_why() -> None:
    assert MEMBERSHIP.applies(trainer(TRAIN, 0.0)) is None
    assert MEMBERSHIP.applies(outsider((), public=False)) is None
    late = replace(
        trainer(TRAIN, 0.0),
        segments={},
        adversary=replace(trainer(TRAIN, 0.0).adversary, segments=(2,)),
    )
    assert MEMBERSHIP.applies(late) is not None
    assert MEMBERSHIP.applies(replace(trainer(TRAIN, 0.0), front=None)) is not None
