"""Extraction steals an undefended network, and nothing where there is nothing to steal."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from clicooper_hpc.attacks.extraction.extraction_attack import EXTRACTION, extract_models
from clicooper_hpc.attacks.harness.adversary import (
    Adversary,
    AdversaryView,
    AuxiliaryData,
    GroundTruth,
    LabelledImages,
    PublicMechanism,
)
from clicooper_hpc.attacks.harness.attack import AttackResult
from clicooper_hpc.attacks.toolbox.label_names import (
    best_label_names,
    class_scores_by_name,
    draw_labelled_samples,
    identity_label_names,
    learn_label_names,
)
from clicooper_hpc.attacks.toolbox.surrogate_network import (
    SegmentChain,
    SurrogateTraining,
    evaluate_network,
    fit_network,
    image_network,
    row_network,
    seed_network,
)

K, GAMMA, SIDE, WIDTH = 4, 3, 8, 24
MECHANISM = PublicMechanism("sample", "replace-one", 1.0, 0.0, math.inf, math.inf, False)


def pictures(count: int, seed: int, noise: float = 0.25) -> LabelledImages:
    """Images of K classes: a pattern each, under noise; two forms of every pattern."""
    pattern = np.random.default_rng(0).random((2, K, 1, SIDE, SIDE))
    rng = np.random.default_rng(seed)
    classes = rng.integers(0, K, count)
    images = pattern[rng.integers(0, 2, count), classes]
    images = np.clip(images + rng.normal(0, noise, images.shape), 0, 1)
    return LabelledImages(images.astype(np.float32), classes.astype(np.int64))


def front(images: NDArray[np.float32]) -> NDArray[np.float32]:
    basis = np.random.default_rng(5).normal(size=(SIDE * SIDE, WIDTH)) / SIDE
    rows: NDArray[np.float32] = ((images.reshape(len(images), -1) - 0.5) @ basis).astype(np.float32)
    return rows


def identity(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    return rows


TRAIN, TEST, AUX = pictures(1200, 1), pictures(1000, 2), pictures(900, 3)
SECRET = np.random.default_rng(11).permutation(np.arange(K * GAMMA) // GAMMA).astype(np.int64)


def trained_segments() -> tuple[nn.Sequential, nn.Sequential]:
    """A network of two segments that answers secret sub-labels."""
    rng = np.random.default_rng(12)
    names = np.array([rng.choice(np.flatnonzero(one == SECRET)) for one in TRAIN.classes])
    parts = (
        nn.Sequential(nn.Linear(WIDTH, 48), nn.ReLU()),
        nn.Sequential(nn.Linear(48, 32), nn.ReLU(), nn.Linear(32, K * GAMMA)),
    )
    network = seed_network(1, SegmentChain(parts))
    fit_network(network, front(TRAIN.images), np.eye(K * GAMMA)[names], SurrogateTraining(20, 1))
    return parts


SEGMENTS = trained_segments()


def victim(images: NDArray[np.float32]) -> NDArray[np.float64]:
    return evaluate_network(SegmentChain(SEGMENTS), front(images))


def view(*, public: bool = True, rows: bool = False) -> AdversaryView:
    given = front(TRAIN.images) if rows else np.empty((0, WIDTH), dtype=np.float32)
    return AdversaryView(
        adversary=Adversary("trainers 1+2" if rows else "outsider", (1, 2)),
        rows=given,
        sub_labels=np.zeros(len(given), dtype=np.int32),
        groups=np.arange(len(given), dtype=np.int64)[:, None],
        sub_label_count=K * GAMMA,
        segments={1: SEGMENTS[0], 2: SEGMENTS[1]},
        mechanism=MECHANISM,
        front=front if public else None,
        clip=identity,
    )


TRUTH = GroundTruth(TRAIN, TEST, K, SECRET, victim)


def attacked(
    view: AdversaryView, truth: GroundTruth = TRUTH
) -> dict[tuple[str, str], AttackResult]:
    outcome = EXTRACTION.run(view, AuxiliaryData(AUX, None), truth, 0, 0.3)
    return {(one.variant, one.metric): one for one in outcome.results}


def test_an_undefended_network_is_stolen_but_for_the_names() -> None:
    found = attacked(view())
    accuracy = found["victim", "accuracy of the victim"].value
    assert accuracy > 0.9
    for variant in ("probabilities", "hard labels"):
        owner = found[variant, "accuracy, owner's names (oracle)"]
        assert owner.value > accuracy - 0.05
        assert found[variant, "accuracy, best many-to-one names (oracle)"].value > accuracy - 0.05
        assert found[variant, "agreement with the victim, classes"].value > 0.93
        assert found[variant, "accuracy, names learnt from 10 per class"].value > accuracy - 0.1
        blind = [
            found[variant, f"accuracy, identity names ({rule})"] for rule in ("modulo", "quotient")
        ]
        assert all(one.kind == "paper" for one in blind)
        assert min(one.value for one in blind) < 0.6
        assert owner.low <= owner.value <= owner.high
        assert owner.chance == pytest.approx(1 / K)


def test_stolen_segments_beat_fresh_ones_on_few_labels() -> None:
    found = attacked(view(rows=True))
    one = found["stolen segments", "accuracy, fine-tuned on 1 per class"]
    assert one.value > one.baseline + 0.05
    assert found["stolen segments", "accuracy, fine-tuned on 10 per class"].value > 0.9
    assert not [key for key in found if key[0] == "probabilities"]


def test_without_the_front_it_steals_from_images() -> None:
    found = attacked(view(public=False))
    assert found["probabilities", "accuracy, owner's names (oracle)"].value > 0.8
    assert "no front" in found["probabilities", "accuracy, owner's names (oracle)"].note
    assert not [key for key in found if key[0] == "stolen segments"]


def test_blind_names_are_at_chance_on_average() -> None:
    """Over secret maps the paper's figure is 1/K however good the network: it says nothing."""
    answers = victim(TEST.images)
    stolen = []
    for seed in range(60):
        mixed = np.random.default_rng(seed).permutation(K * GAMMA)
        names = identity_label_names(K * GAMMA, K, "modulo")
        guessed = class_scores_by_name(answers[:, mixed], names, K, pooled=False).argmax(axis=1)
        stolen.append((guessed == TEST.classes).mean())
    assert np.mean(stolen) == pytest.approx(1 / K, abs=0.1)


def test_a_victim_without_information_gives_nothing() -> None:
    """It answers every image the same, so what learnt names reach is chance."""

    def silent(images: NDArray[np.float32]) -> NDArray[np.float64]:
        return np.full((len(images), K * GAMMA), 1 / (K * GAMMA))

    found = attacked(view(), replace(TRUTH, predict=silent))
    for k in (1, 5, 10):
        one = found["hard labels", f"accuracy, names learnt from {k} per class"]
        assert abs(one.value - 1 / K) < 0.08
    assert abs(found["hard labels", "accuracy, owner's names (oracle)"].value - 1 / K) < 0.08


def test_segments_without_information_are_worth_fresh_ones() -> None:
    fresh = {1: seed_network(7, nn.Sequential(nn.Linear(WIDTH, 48), nn.ReLU()))}
    fresh[2] = seed_network(
        8, nn.Sequential(nn.Linear(48, 32), nn.ReLU(), nn.Linear(32, K * GAMMA))
    )
    found = attacked(replace(view(rows=True), segments=fresh))
    one = found["stolen segments", "accuracy, fine-tuned on 1 per class"]
    assert one.value < one.baseline + 0.1


def test_the_victims_segments_are_left_as_they_were() -> None:
    before = [value.clone() for part in SEGMENTS for value in part.parameters()]
    attacked(view(rows=True))
    after = [value for part in SEGMENTS for value in part.parameters()]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_the_same_seed_gives_the_same_stolen() -> None:
    first, second = (
        extract_models(view(), AuxiliaryData(AUX, None), victim, 3, 0.05).surrogates[
            "probabilities"
        ]
        for _ in "ab"
    )
    assert all(
        torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True)
    )


def test_who_neither_asks_nor_holds_the_first_segment_cannot() -> None:
    late = replace(
        view(rows=True), segments={2: SEGMENTS[1]}, adversary=Adversary("trainer 2", (2,))
    )
    assert EXTRACTION.applies(late) is not None
    assert EXTRACTION.applies(view(rows=True)) is None
    assert EXTRACTION.applies(view(public=False)) is None
    assert EXTRACTION.applies(replace(view(rows=True), front=None)) is not None


def test_names_are_learnt_from_perfect_answers() -> None:
    answers = np.eye(K * GAMMA)
    names = learn_label_names(answers, SECRET, K)
    assert np.array_equal(names, SECRET)
    assert np.array_equal(best_label_names(answers, SECRET, K), SECRET)
    for pooled in (False, True):
        read = class_scores_by_name(answers, SECRET, K, pooled=pooled)
        assert np.array_equal(read.argmax(axis=1), SECRET)
        assert read.sum(axis=1) == pytest.approx(np.ones(len(answers)))
    assert identity_label_names(6, 3, "modulo").tolist() == [0, 1, 2, 0, 1, 2]
    assert identity_label_names(6, 3, "quotient").tolist() == [0, 0, 1, 1, 2, 2]


def test_labelled_images_are_as_many_of_each_class() -> None:
    draw = draw_labelled_samples(AUX.classes, 5, np.random.default_rng(0))
    assert np.bincount(AUX.classes[draw]).tolist() == [5] * K
    assert len(set(draw.tolist())) == 5 * K


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32), (3, 2, 2)])
def test_networks_take_any_shape(shape: tuple[int, ...]) -> None:
    images = torch.zeros(2, *shape)
    assert image_network(shape, 5)(images).shape == (2, 5)
    assert row_network(shape, 5)(images).shape == (2, 5)
