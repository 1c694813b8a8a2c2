"""The model the owner ordered: front, delivered segments and label map together.

A front that ends in class scores (`clicooper_hpc.fronts.private_lda`) is a classifier of its own,
and so is the trainers' network behind it. Their classes are put together by a logarithmic opinion
pool of equal weights (Genest and Zidek, "Combining Probability Distributions", Statistical Science
1, 1986): the product of both probabilities, the front's without the temper they are released with.
Everything in it has left the owner or was paid for, so the composed model is as private as its
parts.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from clicooper_hpc.privacy.labelmap import LabelMap

__all__ = ["CleanScores", "Score", "class_probabilities", "score", "score_clean"]


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


@dataclass(frozen=True, slots=True)
class CleanScores:
    """Quality on clean held-out samples.

    ``model``: of what the owner gets. Where the front ends in class scores, ``front`` is what these
    reach alone, and ``network`` what the trainers' network reaches alone; else None.
    """

    model: Score
    front: Score | None = None
    network: Score | None = None


@torch.no_grad()
def score_clean(
    model: nn.Sequential,
    batches: Iterable[tuple[Tensor, NDArray[np.int64]]],
    label_map: LabelMap,
    *,
    temper: float | None,
) -> CleanScores:
    """Evaluate on clean held-out activations that never leave the owner.

    ``temper``: rows are [n, K], probabilities of the classes to the power 1 / ``temper``, up to a
    factor a row; None where they are anything else.
    """
    model.eval()
    networks, fronts, truths = [], [], []
    for rows, classes in batches:
        networks.append(class_probabilities(model(rows).float(), label_map))
        truths.append(classes)
        if temper is not None:
            fronts.append(_normalised(rows.double().numpy() ** temper))
    network, classes = np.concatenate(networks), np.concatenate(truths)
    if temper is None:
        return CleanScores(score(network, classes))
    front = np.concatenate(fronts)
    return CleanScores(
        model=score(_normalised(network * front), classes),
        front=score(front, classes),
        network=score(network, classes),
    )


def _normalised(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Make rows [n, K] add up to 1; what is not positive counts as the smallest number there is."""
    positive = np.maximum(scores, np.finfo(np.float64).tiny)
    normalised: NDArray[np.float64] = positive / positive.sum(axis=1, keepdims=True)
    return normalised
