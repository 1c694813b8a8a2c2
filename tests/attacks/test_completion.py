"""Completion: few labels name classes where features show them, and nothing where they do not."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from clicooper_hpc.attacks.completion.completion_attack import COMPLETION
from clicooper_hpc.attacks.harness.adversary import (
    Adversary,
    AdversaryView,
    AuxiliaryData,
    GroundTruth,
    LabelledImages,
    PublicMechanism,
)
from clicooper_hpc.attacks.harness.attack import AttackResult

K, GAMMA, SIDE = 4, 3, 6
D = SIDE * SIDE

Rows = NDArray[np.float32]


def front(images: Rows) -> Rows:
    return images.reshape(len(images), -1)


def samples(count: int, seed: int, *, told: bool) -> LabelledImages:
    """A weak class signal in the first K pixels, large noise in the last."""
    rng = np.random.default_rng(seed)
    classes = (np.arange(count) % K).astype(np.int64)
    images = np.full((count, D), 0.5)
    images[:, K:] += rng.standard_normal((count, D - K)) * 0.5
    if told:
        images[np.arange(count), classes] += 0.6
    images[:, :K] += rng.standard_normal((count, K)) * 0.1
    return LabelledImages(images.reshape(count, 1, SIDE, SIDE).astype(np.float32), classes)


def segment() -> nn.Module:
    """A trained segment's stand-in: keeps what tells classes apart, drops the rest."""
    layer = nn.Linear(D, K)
    with torch.no_grad():
        layer.weight.zero_()
        layer.weight[:, :K] = 5 * torch.eye(K)
        layer.bias.zero_()
    return layer.eval()


def case(
    *, told: bool = True, first: int = 1, sigma: float = 0.0
) -> tuple[AdversaryView, AuxiliaryData, GroundTruth]:
    train, test = samples(400, 0, told=told), samples(300, 1, told=told)
    rng = np.random.default_rng(2)
    sub_labels = train.classes * GAMMA + rng.integers(GAMMA, size=len(train))
    secret = rng.permutation(K * GAMMA)
    of_names = np.empty(K * GAMMA, dtype=np.int64)
    of_names[secret] = np.arange(K * GAMMA) // GAMMA
    rows = front(train.images)
    rows = rows + sigma * rng.standard_normal(rows.shape).astype(np.float32)
    mechanism = PublicMechanism("sample", "replace-one", 1.0, sigma, math.inf, math.inf, False)
    view = AdversaryView(
        adversary=Adversary(f"trainer {first}", (first,)),
        rows=rows.astype(np.float32),
        sub_labels=secret[sub_labels].astype(np.int32),
        groups=np.arange(len(train), dtype=np.int64)[:, None],
        sub_label_count=K * GAMMA,
        segments={first: segment()},
        mechanism=mechanism,
        front=front,
        clip=lambda clean: clean,
    )

    def predict(asked: Rows) -> NDArray[np.float64]:
        return np.full((len(asked), K * GAMMA), 1 / (K * GAMMA))

    return (
        view,
        AuxiliaryData(samples(200, 3, told=told), None),
        GroundTruth(train, test, K, of_names, predict),
    )


def findings(
    view: AdversaryView, aux: AuxiliaryData, truth: GroundTruth
) -> dict[tuple[str, str], AttackResult]:
    outcome = COMPLETION.run(view, aux, truth, 0, 0.2)
    return {(found.variant, found.metric): found for found in outcome.results}


def test_a_stolen_segment_names_classes_from_few_labels() -> None:
    by = findings(*case())
    for head in ("logistic", "MixMatch"):
        found = by[f"segment 1, {head}, 4 a class", "accuracy on test images"]
        assert found.value > 0.95
        assert found.low <= found.value <= found.high
        assert found.value > found.baseline + 0.1
    assert by["segment 1, logistic, 10 a class", "accuracy on released rows"].value > 0.95
    assert by["segment 1, logistic, 4 a class", "ARI of named sub-labels"].value > 0.99
    assert by["segment 1, logistic, 4 a class", "accuracy on rows by sub-label"].value > 0.99


def test_pooling_over_sub_labels_beats_the_noise_of_single_rows() -> None:
    by = findings(*case(sigma=0.8))
    single = by["segment 1, logistic, 10 a class", "accuracy on released rows"]
    pooled = by["segment 1, logistic, 10 a class", "accuracy on rows by sub-label"]
    assert single.value < 0.85
    assert pooled.value > single.value + 0.1


def test_without_information_the_guess_is_blind() -> None:
    by = findings(*case(told=False))
    seen = 0
    for (variant, metric), found in by.items():
        if metric in {"accuracy on test images", "accuracy on released rows"}:
            assert abs(found.value - 1 / K) < 0.12, (variant, metric)
            assert found.chance == 1 / K
            seen += 1
    assert seen == 24


def test_a_later_trainer_labels_rows_it_knows() -> None:
    view, aux, truth = case(first=2)
    by = findings(view, aux, truth)
    assert not [key for key in by if key[1] == "accuracy on test images"]
    found = by["segment 2, logistic, 4 a class", "accuracy on released rows"]
    assert found.value > 0.95
    assert "rows of the view" in found.note


def test_it_needs_a_segment_and_something_to_put_in() -> None:
    view, _, _ = case()
    assert COMPLETION.applies(view) is None
    assert COMPLETION.applies(replace(view, segments={})) is not None
    bare = replace(view, rows=view.rows[:0], sub_labels=view.sub_labels[:0], front=None)
    assert COMPLETION.applies(bare) is not None
    outsider = replace(view, rows=view.rows[:0], sub_labels=view.sub_labels[:0])
    assert COMPLETION.applies(outsider) is None
