"""The delivered model: the front's class scores and the trainers' network, put together."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from clicooper_hpc.owner.evaluation import evaluate_clean
from clicooper_hpc.privacy.label_map import LabelMap
from clicooper_hpc.privacy.master_key import MasterKey

CLASSES, GAMMA, SAMPLES = 5, 3, 400


def made(front: float, network: float) -> tuple[NDArray[np.float64], nn.Sequential, LabelMap]:
    """Scores of the classes and a network on them, each right with some noise around the truth."""
    label_map = LabelMap.draw_label_map("random", CLASSES, GAMMA, MasterKey.from_seed(3))
    rng = np.random.default_rng(0)
    truth = np.eye(CLASSES)[np.arange(SAMPLES) % CLASSES]
    scores = np.exp(front * truth + rng.normal(size=truth.shape))
    logits = network * truth + rng.normal(size=truth.shape)
    names = label_map.map_to_classes(np.arange(label_map.num_sub_labels, dtype=np.int32))

    class Table(nn.Module):
        """Answers the i-th row with the i-th logits, whatever it holds."""

        place = 0

        def forward(self, rows: Tensor) -> Tensor:
            start, self.place = self.place, self.place + len(rows)
            return torch.tensor(logits[start : self.place][:, names])

    return scores / np.linalg.norm(scores, axis=1, keepdims=True), nn.Sequential(Table()), label_map


def batches(rows: NDArray[np.float64]) -> Iterator[tuple[Tensor, NDArray[np.int64]]]:
    for start in range(0, len(rows), 64):
        part = rows[start : start + 64]
        classes = np.arange(start, start + len(part)) % CLASSES
        yield torch.tensor(part, dtype=torch.float32), classes


def test_two_witnesses_are_better_than_either() -> None:
    rows, model, label_map = made(front=1.5, network=1.5)
    clean = evaluate_clean(model, batches(rows), label_map, temperature=1.0).scores
    assert clean.front is not None
    assert clean.network is not None
    assert clean.front.samples == clean.model.samples == SAMPLES
    right = rows.argmax(axis=1) == np.arange(SAMPLES) % CLASSES
    assert clean.front.accuracy == pytest.approx(right.mean())
    assert clean.model.accuracy > max(clean.front.accuracy, clean.network.accuracy) + 0.05


def test_a_network_that_knows_nothing_leaves_the_scores_as_they_are() -> None:
    rows, _, label_map = made(front=3.0, network=0.0)
    silent = nn.Sequential(nn.Linear(CLASSES, CLASSES * GAMMA, bias=False))
    nn.init.zeros_(silent[0].weight)  # type: ignore[arg-type]
    clean = evaluate_clean(silent, batches(rows), label_map, temperature=1.0).scores
    assert clean.front is not None
    assert clean.model.accuracy == clean.front.accuracy
    assert clean.model.loss == pytest.approx(clean.front.loss)


def test_scores_softened_for_release_count_as_they_were_before() -> None:
    rows, model, label_map = made(front=1.5, network=1.5)
    plain = evaluate_clean(model, batches(rows), label_map, temperature=1.0).scores
    _, model, _ = made(front=1.5, network=1.5)
    softened = evaluate_clean(model, batches(np.sqrt(rows)), label_map, temperature=2.0).scores
    assert softened.model.loss == pytest.approx(plain.model.loss, rel=1e-4)


def test_a_score_of_zero_is_no_veto_by_accident() -> None:
    """float32 scores may underflow to 0; the pool stays finite and the network may still speak."""
    label_map = LabelMap.draw_label_map("none", 2, 1, MasterKey.from_seed(3))
    rows = np.array([[0.0, 0.0], [1.0, 0.0]])
    network = nn.Sequential(nn.Linear(2, 2))
    with torch.no_grad():
        network[0].weight.zero_()  # type: ignore[operator]
        network[0].bias.copy_(torch.tensor([0.0, 2.0]))  # type: ignore[operator]
    truth = [(torch.tensor(rows, dtype=torch.float32), np.array([1, 0]))]
    clean = evaluate_clean(network, truth, label_map, temperature=1.0).scores
    assert clean.model.accuracy == 1.0
    assert np.isfinite(clean.model.loss)


def test_without_class_scores_the_network_is_the_model() -> None:
    rows, model, label_map = made(front=0.0, network=1.5)
    clean = evaluate_clean(model, batches(rows), label_map, temperature=None).scores
    assert clean.front is None
    assert clean.network is None
    assert 0.5 < clean.model.accuracy < 1.0
