"""Clustering of single rows: succeeds where classes lie apart, is at chance in pure noise."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from clicooper_hpc.attacks.harness.adversary import (
    Adversary,
    AdversaryView,
    AuxiliaryData,
    GroundTruth,
    LabelledImages,
    PublicMechanism,
)
from clicooper_hpc.attacks.harness.attack import AttackResult
from clicooper_hpc.attacks.labels.clustering_attack import CLUSTERING
from clicooper_hpc.attacks.labels.grouping_metrics import (
    exactly_recovered,
    groups_found,
    hungarian_accuracy,
    hungarian_chance,
    pair_f1,
)
from clicooper_hpc.attacks.toolbox.confidence_interval import (
    bootstrap_interval,
    clopper_pearson_interval,
)

K, N, D = 5, 600, 8


def case(
    spread: float, sigma: float, segment: nn.Module | None = None
) -> tuple[AdversaryView, AuxiliaryData, GroundTruth]:
    """Return K classes of points at distance 4 with spread, and radius 1 where there is noise."""
    rng = np.random.default_rng(0)
    classes = (np.arange(N) % K).astype(np.int64)
    centres = np.eye(K, D) * (0.0 if math.isinf(spread) else 4.0)
    wide = 1.0 if math.isinf(spread) else spread
    rows = (centres[classes] + rng.standard_normal((N, D)) * wide).astype(np.float32)
    mechanism = PublicMechanism(
        "sample", "replace-one", 1.0, sigma, 1.0 if sigma else math.inf, 0, False
    )
    view = AdversaryView(
        adversary=Adversary("trainer 1", (1,)),
        rows=rows,
        sub_labels=classes.astype(np.int32),
        groups=np.arange(N, dtype=np.int64)[:, None],
        sub_label_count=K,
        segments={} if segment is None else {1: segment.eval()},
        mechanism=mechanism,
        front=None,
        clip=lambda clean: clean,
    )
    images = np.zeros((N, 1, 1, 1), dtype=np.float32)
    labelled = LabelledImages(images, classes)

    def predict(asked: NDArray[np.float32]) -> NDArray[np.float64]:
        return np.full((len(asked), K), 1 / K)

    truth = GroundTruth(labelled, labelled, K, np.arange(K, dtype=np.int64), predict)
    return view, AuxiliaryData(labelled, None), truth


def findings(
    view: AdversaryView, aux: AuxiliaryData, truth: GroundTruth
) -> dict[tuple[str, str], AttackResult]:
    outcome = CLUSTERING.run(view, aux, truth, 0, 0.6)
    return {(found.variant, found.metric): found for found in outcome.results}


def test_classes_far_apart_are_found() -> None:
    by = findings(*case(0.3, 0.0))
    for kind in ("plain", "unit", "white"):
        assert by[f"rows: rows, {kind}, k-means from known", "Hungarian accuracy"].value > 0.95
    assert by["rows: rows, plain, k-means", "Hungarian accuracy"].value > 0.95
    assert by["rows: rows, plain, k-means", "ARI"].value > 0.9
    assert by["rows: rows, plain, k-means", "groups found (purity and recall >= 0.9)"].value == 1.0
    assert by["rows: rows, plain, nearest known", "accuracy"].value > 0.95
    assert by["rows: rows, unit, nearest known by cosine", "accuracy"].value > 0.95


def test_pure_noise_is_at_chance_and_under_the_ceiling() -> None:
    by = findings(*case(math.inf, 4.0))
    for (variant, metric), found in by.items():
        if metric == "Hungarian accuracy":
            assert found.chance > 1 / K, variant
            assert abs(found.value - found.chance) < 0.06, variant
        if metric == "accuracy":
            assert found.low <= found.ceiling, variant
        if metric.startswith("groups found"):
            assert found.value == 0.0, variant


def test_features_of_a_held_segment_are_clustered_too() -> None:
    segment = nn.Linear(D, D)
    with torch.no_grad():
        segment.weight.copy_(torch.eye(D))
        segment.bias.zero_()
    by = findings(*case(0.3, 0.0, segment))
    found = by["segment 1: rows, plain, k-means from known", "Hungarian accuracy"]
    assert found.value > 0.95
    assert math.isnan(found.ceiling)


def test_no_rows_no_attack() -> None:
    view, _, _ = case(0.3, 0.0)
    assert CLUSTERING.applies(view) is None
    from dataclasses import replace

    empty = replace(view, rows=view.rows[:0])
    assert CLUSTERING.applies(empty) is not None


def test_hungarian_accuracy_and_its_chance() -> None:
    truth = (np.arange(200) % 10).astype(np.int64)
    assert hungarian_accuracy((truth + 3) % 10, truth) == 1.0
    blind = np.random.default_rng(1).integers(0, 10, 200)
    chance = hungarian_chance(blind, truth, 0)
    # The best of all namings of finite samples is above 1/K.
    assert 0.11 < chance < 0.25
    found = (truth + 3) % 10
    low, high = bootstrap_interval(
        lambda drawn: hungarian_accuracy(found[drawn], truth[drawn]), 200, 0
    )
    assert (low, high) == (1.0, 1.0)


def test_figures_by_hand() -> None:
    truth = np.array([0, 0, 0, 1, 1, 1], dtype=np.int64)
    found = np.array([0, 0, 1, 1, 1, 1], dtype=np.int64)
    # Pairs together: guessed 1 + 6, true 3 + 3, both 1 + 3.
    assert pair_f1(found, truth) == pytest.approx(2 * 4 / 13)
    assert exactly_recovered(found, truth) == 0.0
    assert exactly_recovered(1 - truth, truth) == 1.0
    assert groups_found(found, truth) == 0.0
    assert groups_found(found, truth, least=0.6) == 1.0
    assert hungarian_accuracy(found, truth) == pytest.approx(5 / 6)


def test_exact_interval() -> None:
    # Clopper and Pearson for 0 of n: 1 - 0.025^(1/n).
    low, high = clopper_pearson_interval(0, 10)
    assert low == 0.0
    assert high == pytest.approx(1 - 0.025**0.1)
    low, high = clopper_pearson_interval(50, 100)
    assert low == pytest.approx(0.3983, abs=1e-4)
    assert high == pytest.approx(0.6017, abs=1e-4)
