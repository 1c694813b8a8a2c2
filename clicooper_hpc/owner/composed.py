"""The model the owner ordered: front, delivered segments and label map together."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from clicooper_hpc.privacy.labelmap import LabelMap

__all__ = ["Score", "class_probabilities", "score", "score_clean", "score_front"]


@dataclass(frozen=True, slots=True)
class Score:
    """Quality on ``samples`` samples: top-1 accuracy in [0, 1], mean cross-entropy in nats."""

    accuracy: float
    loss: float
    samples: int


def class_probabilities(logits: Tensor, label_map: LabelMap) -> NDArray[np.float64]:
    """Return what logits of sub-labels [n, names] say of classes: float64 [n, classes]."""
    probabilities = torch.softmax(logits.double(), dim=1).numpy()
    return np.asarray(label_map.class_probabilities(probabilities), dtype=np.float64)


def score(probabilities: NDArray[np.float64], classes: NDArray[np.int64]) -> Score:
    """Compare class probabilities [n, K] with the true classes [n]."""
    if len(classes) == 0:
        return Score(float("nan"), float("nan"), 0)
    right = probabilities[np.arange(len(classes)), classes]
    floor = np.finfo(np.float64).tiny
    return Score(
        accuracy=float((probabilities.argmax(axis=1) == classes).mean()),
        loss=float(-np.log(np.maximum(right, floor)).mean()),
        samples=len(classes),
    )


@torch.no_grad()
def score_clean(
    model: nn.Sequential,
    batches: Iterator[tuple[Tensor, NDArray[np.int64]]],
    label_map: LabelMap,
) -> Score:
    """Evaluate on clean held-out activations that never leave the owner."""
    model.eval()
    parts = [
        (class_probabilities(model(rows).float(), label_map), classes) for rows, classes in batches
    ]
    return score(
        np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])
    )


def score_front(batches: Iterator[tuple[Tensor, NDArray[np.int64]]]) -> Score:
    """Evaluate a front that ends in class scores as a classifier of its own, without trainers.

    Rows are [n, K], scores of the classes up to a factor a row.
    """
    parts = [(rows.double().numpy().clip(min=0.0), classes) for rows, classes in batches]
    return score(
        np.concatenate([rows / rows.sum(axis=1, keepdims=True) for rows, _ in parts]),
        np.concatenate([classes for _, classes in parts]),
    )
