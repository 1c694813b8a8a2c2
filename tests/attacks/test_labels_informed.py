from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from sklearn.metrics import adjusted_rand_score

from clicooper_hpc.attacks.labels.grouping import deal_equal_groups
from clicooper_hpc.attacks.labels.informed_groups import (
    LabelledEvidence,
    informed_answer_scores,
    informed_density_scores,
    informed_row_scores,
)
from clicooper_hpc.attacks.labels.merge_attack import score_merge_groups
from clicooper_hpc.attacks.labels.merge_variants import MergeEvidence, merge_variants

K, GAMMA, WIDTH = 5, 60, 12
RNG = np.random.default_rng(0)
MEANS = RNG.normal(size=(K, WIDTH))
OWNER = np.arange(K * GAMMA) // GAMMA


def drawn(count: int, noise: float, seed: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    rng = np.random.default_rng(seed)
    classes = rng.integers(0, K, count)
    return (MEANS[classes] + noise * rng.normal(size=(count, WIDTH))).astype(np.float32), classes


def ari(scores: NDArray[np.float64]) -> float:
    return float(adjusted_rand_score(OWNER, scores.argmax(axis=1)))


@pytest.mark.parametrize(("noise", "least"), [(0.5, 0.97), (6.0, 0.05)])
def test_labelled_rows_name_what_no_grouping_finds(noise: float, least: float) -> None:
    rows, classes = drawn(1200, noise, 1)
    names = (classes * GAMMA + np.random.default_rng(2).integers(0, GAMMA, 1200)).astype(np.int32)
    clean, known = drawn(200, 0.5, 3)
    found = ari(
        informed_row_scores(
            LabelledEvidence(rows, names, K * GAMMA, clean, known, K, (noise**2 - 0.25) ** 0.5)
        )
    )
    blind = merge_variants(MergeEvidence(rows, names, GAMMA, K, noise), scale=0.1)
    best = max(adjusted_rand_score(OWNER, group) for group in blind.values())
    assert found >= least
    assert found >= best - 0.02


def test_labelled_rows_of_pure_noise_are_no_better_than_chance() -> None:
    rows = np.random.default_rng(4).normal(size=(1200, WIDTH)).astype(np.float32)
    names = np.random.default_rng(5).integers(0, K * GAMMA, 1200).astype(np.int32)
    clean, known = drawn(200, 0.5, 3)
    assert (
        abs(
            ari(informed_row_scores(LabelledEvidence(rows, names, K * GAMMA, clean, known, K, 1.0)))
        )
        < 0.03
    )


def test_wide_rows_are_judged_along_their_principal_axes() -> None:
    rng = np.random.default_rng(6)
    lift = np.linalg.qr(rng.normal(size=(1200, WIDTH)))[0].T.astype(np.float32)
    rows, classes = drawn(900, 0.5, 7)
    names = (classes * GAMMA + rng.integers(0, GAMMA, 900)).astype(np.int32)
    clean, known = drawn(200, 0.5, 8)
    assert (
        ari(
            informed_row_scores(
                LabelledEvidence(rows @ lift, names, K * GAMMA, clean @ lift, known, K, 0.1)
            )
        )
        > 0.8
    )


def test_answers_to_labelled_images_name_the_sub_labels_of_a_network() -> None:
    clean, known = drawn(100, 0.5, 9)
    weights = MEANS[OWNER] + 0.1 * np.random.default_rng(10).normal(size=(K * GAMMA, WIDTH))
    assert ari(informed_answer_scores((clean @ weights.T).astype(np.float32), known, K)) > 0.95
    blank = np.random.default_rng(11).normal(size=(100, K * GAMMA)).astype(np.float32)
    assert abs(ari(informed_answer_scores(blank, known, K))) < 0.03


def test_a_class_without_labelled_images_does_not_break_the_attack_off() -> None:
    """Its mean was nan: every name was then given to it, and dealing equally raised."""
    rows, classes = drawn(1200, 0.5, 12)
    names = (classes * GAMMA + np.random.default_rng(13).integers(0, GAMMA, 1200)).astype(np.int32)
    clean, known = drawn(200, 0.5, 14)
    shown = known != 2
    weights = MEANS[OWNER].T
    answers = (clean[shown] @ weights).astype(np.float32)
    for scores in (
        informed_row_scores(
            LabelledEvidence(rows, names, K * GAMMA, clean[shown], known[shown], K, 0.1)
        ),
        informed_answer_scores(answers, known[shown], K),
    ):
        guess = scores.argmax(axis=1)
        seen = np.bincount(names, minlength=K * GAMMA) > 0
        assert 2 not in guess
        assert (guess == OWNER)[seen & (OWNER != 2)].mean() > 0.9
        assert np.bincount(deal_equal_groups(-scores)).tolist() == [GAMMA] * K


def test_a_density_finds_classes_whose_means_are_equal() -> None:
    """Two classes around one point: near it, and on a circle. Means cannot tell them apart."""
    rng = np.random.default_rng(12)
    count, names = 1500, 40

    def rings(number: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        which = rng.integers(0, 2, number)
        angle = rng.uniform(0, 2 * np.pi, number)
        points = which[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
        return (points + 0.1 * rng.normal(size=(number, 2))).astype(np.float32), which

    clean, known = rings(300)
    rows, classes = rings(count)
    named = (classes * names + rng.integers(0, names, count)).astype(np.int32)
    owner = np.arange(2 * names) // names
    found = informed_density_scores(
        LabelledEvidence(rows, named, 2 * names, clean, known, 2, 0.05)
    ).argmax(axis=1)
    assert adjusted_rand_score(owner, found) > 0.9
    by_means = informed_row_scores(
        LabelledEvidence(rows, named, 2 * names, clean, known, 2, 0.05)
    ).argmax(axis=1)
    assert adjusted_rand_score(owner, by_means) < 0.6


def test_the_strongest_is_the_strongest_in_each_metric() -> None:
    """The best in ARI was reported in every metric, though another recovered more classes."""
    truth = np.repeat(np.arange(4), 4)
    exact = truth.copy()
    exact[4:] = np.random.default_rng(0).permutation(exact[4:])  # one class whole
    close = truth.copy()
    close[[0, 4, 8, 12]] = (truth[[0, 4, 8, 12]] + 1) % 4  # no class whole, most together
    seen = np.ones(16, dtype=np.bool_)
    found = {
        one.metric: one.value
        for one in score_merge_groups({"exact": exact, "close": close}, truth, "x", 0, seen)
        if one.variant == "strongest"
    }
    assert found["classes exactly recovered"] == 0.25
    assert found["ARI"] == pytest.approx(adjusted_rand_score(truth, close))


@pytest.mark.parametrize("groups", [10, 100])
def test_many_points_are_dealt_nearly_as_cheaply_as_can_be(groups: int) -> None:
    rng = np.random.default_rng(13)
    centres = rng.normal(size=(groups, 8))
    points = centres[np.arange(600) % groups] + 0.8 * rng.normal(size=(600, 8))
    costs = ((points[:, None] - centres) ** 2).sum(axis=2)
    dealt = deal_equal_groups(costs)
    assert np.bincount(dealt, minlength=groups).tolist() == [600 // groups] * groups
    slots = np.repeat(np.arange(groups), 600 // groups)
    which, where = linear_sum_assignment(costs[:, slots])
    best = costs[which, slots[where]].sum()
    assert costs[np.arange(600), dealt].sum() < 1.04 * best
    blind = costs[np.arange(600), rng.permutation(slots)].sum()
    assert blind > 2 * best
