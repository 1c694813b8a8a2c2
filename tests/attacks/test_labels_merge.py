"""Grouping of sub-labels: found where it can be, chance where nothing is to be found."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score

from clicooper_hpc.attacks.labels.balanced_groups import balanced_groups
from clicooper_hpc.attacks.labels.grouping import kmeans_groups
from clicooper_hpc.attacks.labels.grouping_metrics import adjusted_rand
from clicooper_hpc.attacks.labels.merge_attack import MERGE, score_merge_groups
from clicooper_hpc.attacks.labels.merge_variants import MergeEvidence, merge_variants
from clicooper_hpc.privacy.label_map import LabelMap
from clicooper_hpc.privacy.master_key import MasterKey

K, GAMMA, N, D = 5, 4, 2000, 12

Rows = NDArray[np.float32]
Labels = NDArray[np.int64]


def labelled_rows(spread: float, seed: int = 0) -> tuple[Rows, Labels]:
    """Classes as points of norm 3 apart in some directions, a wide common structure in others."""
    rng = np.random.default_rng(seed)
    centres = np.zeros((K, D))
    centres[:, : D // 2] = rng.standard_normal((K, D // 2)) * 3
    classes = np.arange(N) % K
    rows = centres[classes] + rng.standard_normal((N, D)) * spread
    rows[:, D // 2 :] += rng.standard_normal((N, D - D // 2)) * 6
    return rows.astype(np.float32), classes.astype(np.int64)


def expanded(rows: Rows, classes: Labels, method: str) -> tuple[NDArray[np.int32], Labels]:
    """Name samples by a label map, or ("cells") by cells of the rows that all classes share."""
    if method == "cells":
        which = KMeans(GAMMA, n_init=4, random_state=3).fit_predict(rows)
        permutation = np.random.default_rng(3).permutation(K * GAMMA)
        truth = np.empty(K * GAMMA, np.int64)
        truth[permutation] = np.arange(K * GAMMA) // GAMMA
        return permutation[classes * GAMMA + which].astype(np.int32), truth
    made = LabelMap.draw_label_map("random", K, GAMMA, MasterKey.from_seed(3))
    names = made.map_to_sub_labels(classes, np.arange(N), rows, split="train")
    return names, made.map_to_classes(np.arange(K * GAMMA, dtype=np.int32))


def aris(groups: dict[str, Labels], truth: Labels) -> dict[str, float]:
    return {name: adjusted_rand(group, truth) for name, group in groups.items()}


def test_random_names_without_noise_are_merged_by_their_means() -> None:
    rows, classes = labelled_rows(0.3)
    names, truth = expanded(rows, classes, "random")
    found = aris(merge_variants(MergeEvidence(rows, names, GAMMA, K, 0.0), scale=0.05), truth)
    assert found["rows whitened Ward"] == pytest.approx(1.0)
    assert found["rows whitened equal"] == pytest.approx(1.0)


def test_common_cells_hide_from_means_but_not_from_stripping_and_transfer() -> None:
    rows, classes = labelled_rows(1.0)
    names, truth = expanded(rows, classes, "cells")
    found = aris(merge_variants(MergeEvidence(rows, names, GAMMA, K, 0.0), scale=0.2), truth)
    assert found["rows Ward"] < 0.3
    assert found["rows whitened stripped factors matched"] == pytest.approx(1.0)
    assert found["rows transfer matched"] > 0.8
    assert found["rows transfer refined"] > 0.8


def test_learnt_refinement_mends_a_half_wrong_grouping() -> None:
    from clicooper_hpc.attacks.labels.transfer_networks import SubLabelRows, refine_by_transfer

    rows, classes = labelled_rows(1.0)
    names, truth = expanded(rows, classes, "random")
    rng = np.random.default_rng(1)
    wrong = truth.copy()
    moved = rng.permutation(len(truth))[: len(truth) // 2]
    wrong[moved] = rng.permutation(wrong[moved])
    mended = refine_by_transfer(
        SubLabelRows(rows / rows.std(axis=0), names.astype(np.int64)),
        wrong,
        K,
        0,
        rounds=12,
        scale=0.25,
    )
    assert adjusted_rand(wrong, truth) < 0.6
    assert adjusted_rand(mended, truth) > adjusted_rand(wrong, truth) + 0.2


def test_known_noise_is_filtered() -> None:
    rng = np.random.default_rng(2)
    rows, classes = labelled_rows(0.5)
    names, truth = expanded(rows, classes, "random")
    noisy = (rows + rng.standard_normal(rows.shape) * 8).astype(np.float32)
    found = aris(merge_variants(MergeEvidence(noisy, names, GAMMA, K, 8.0), scale=0.05), truth)
    assert max(found["rows denoised equal"], found["rows denoised Ward"]) > 0.5


@pytest.mark.parametrize("method", ["random", "cells"])
def test_rows_of_pure_noise_tell_nothing(method: str) -> None:
    rng = np.random.default_rng(4)
    rows = rng.standard_normal((N, D)).astype(np.float32)
    classes = (np.arange(N) % K).astype(np.int64)
    names, truth = expanded(rows, classes, method)
    found = merge_variants(MergeEvidence(rows, names, GAMMA, K, 1.0), scale=0.05)
    scores = np.array(list(aris(found, truth).values()))
    assert abs(float(np.mean(scores))) < 0.1
    findings = score_merge_groups(found, truth, "trainer 1", 0, np.ones(K * GAMMA, dtype=np.bool_))
    best = next(f for f in findings if f.variant == "strongest" and f.metric == "ARI")
    # The best of many blind guesses is above 0, and its chance level says so.
    assert best.chance > 0.1
    assert best.value < best.chance + 0.25


def test_head_rows_and_confusion_alone_betray_siblings() -> None:
    rng = np.random.default_rng(5)
    truth = rng.permutation(np.arange(K * GAMMA) % K).astype(np.int64)
    head = rng.standard_normal((K, 30))[truth] + rng.standard_normal((K * GAMMA, 30)) * 0.2
    together = (truth[:, None] == truth[None, :]) * 1.0
    confused = 0.1 + together + rng.random((K * GAMMA, K * GAMMA)) * 0.05
    none = np.zeros((0, 4), dtype=np.float32)
    found = aris(
        merge_variants(
            MergeEvidence(
                none,
                np.zeros(0, dtype=np.int32),
                GAMMA,
                K,
                0.0,
                head.astype(np.float32),
                confused,
            )
        ),
        truth,
    )
    assert found["head Ward"] == pytest.approx(1.0)
    assert found["segment's confusion spectral"] == pytest.approx(1.0)
    assert found["segment's confusion equal"] == pytest.approx(1.0)


def test_same_seed_same_groups() -> None:
    rows, classes = labelled_rows(2.0)
    names, _ = expanded(rows, classes, "cells")
    once = merge_variants(MergeEvidence(rows, names, GAMMA, K, 0.0), seed=7, scale=0.05)
    again = merge_variants(MergeEvidence(rows, names, GAMMA, K, 0.0), seed=7, scale=0.05)
    assert once.keys() == again.keys()
    for name, group in once.items():
        np.testing.assert_array_equal(group, again[name])


def test_findings_carry_chance_and_the_choice_of_the_best() -> None:
    truth = np.repeat(np.arange(K), GAMMA).astype(np.int64)
    rng = np.random.default_rng(6)
    groups = {"right": truth, "blind": rng.permutation(truth)}
    findings = score_merge_groups(
        groups, truth, "trainer 2", 0, np.ones(len(truth), dtype=np.bool_)
    )
    by = {(f.variant, f.metric): f for f in findings}
    assert by["right", "ARI"].value == pytest.approx(1.0)
    assert by["right", "classes exactly recovered"].value == 1.0
    assert by["strongest", "ARI"].value == pytest.approx(1.0)
    assert "favours the attacker" in by["strongest", "ARI"].note
    assert abs(by["blind", "ARI"].chance) < 0.05
    assert by["strongest", "ARI"].chance > by["blind", "ARI"].chance


def test_ari_is_that_of_scikit_learn() -> None:
    rng = np.random.default_rng(8)
    for _ in range(20):
        a, b = rng.integers(0, 4, (2, 50))
        assert adjusted_rand(a, b) == pytest.approx(adjusted_rand_score(b, a))


def test_attack_is_named() -> None:
    assert MERGE.name == "merge"


def test_names_spread_on_purpose_are_found_by_balance() -> None:
    """Two names a class, in opposite directions: what `anchors` with two names come to."""
    rng = np.random.default_rng(8)
    apart = rng.standard_normal((K, 6)) * 4
    truth = np.repeat(np.arange(K), 2)
    means = np.concatenate([apart[:, None], -apart[:, None]], axis=1).reshape(2 * K, 6)
    means += rng.standard_normal(means.shape) * 0.1
    order = rng.permutation(2 * K)
    counts = np.full(2 * K, 50, dtype=np.int64)
    assert adjusted_rand(kmeans_groups(means[order], K, 0, starts=10), truth[order]) < 0.3
    assert adjusted_rand(balanced_groups(means[order], counts, K, 0), truth[order]) == 1.0
    blind = balanced_groups(rng.standard_normal((2 * K, 6)), counts, K, 0)
    assert np.bincount(blind).tolist() == [2] * K
    assert adjusted_rand(blind, truth) < 0.3
