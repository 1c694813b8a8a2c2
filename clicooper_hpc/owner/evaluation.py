"""Quality of the delivered model on held-out samples: front, segments and label map together.

A front that ends in class scores (`clicooper_hpc.fronts.private_lda`) is a classifier of its own,
and so is the trainers' network behind it. Their classes are put together by a logarithmic opinion
pool of equal weights (Genest and Zidek, "Combining Probability Distributions", Statistical Science
1, 1986): the product of both probabilities, the front's at temperature 1, not at the one they are
released with. Everything in it has left the owner or was paid for, so the delivered model is as
private as its parts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from clicooper_hpc.data.split import Split
from clicooper_hpc.fronts.front import Front
from clicooper_hpc.fronts.operations import Scores
from clicooper_hpc.owner.moment_model import MomentModel
from clicooper_hpc.privacy.label_map import LabelMap
from clicooper_hpc.privacy.row_releaser import RowReleaser

__all__ = [
    "CleanScores",
    "HeldOutSamples",
    "MomentBaselines",
    "Score",
    "evaluate_clean",
    "evaluate_logits",
    "evaluate_probabilities",
]

_BATCH = 256


@dataclass(frozen=True, slots=True)
class Score:
    """Quality on ``samples`` samples: top-1 accuracy in [0, 1], mean cross-entropy in nats."""

    accuracy: float
    loss: float
    samples: int


def evaluate_logits(logits: Tensor, label_map: LabelMap) -> NDArray[np.float64]:
    """Return what logits of sub-labels [n, names] say of classes: float64 [n, classes]."""
    probabilities = torch.softmax(logits.double(), dim=1).numpy()
    return np.asarray(label_map.map_probabilities(probabilities), dtype=np.float64)


def evaluate_probabilities(probabilities: NDArray[np.float64], classes: NDArray[np.int64]) -> Score:
    """Compare class probabilities [n, K] with the true classes [n]."""
    # Not 0: nothing was measured, and nothing is shown on the card.
    if len(classes) == 0:
        return Score(float("nan"), float("nan"), 0)
    right = probabilities[np.arange(len(classes)), classes]
    # A probability of 0 for the true class would make the mean loss infinite.
    floor = np.finfo(np.float64).tiny
    return Score(
        accuracy=float((probabilities.argmax(axis=1) == classes).mean()),
        loss=float(-np.log(np.maximum(right, floor)).mean()),
        samples=len(classes),
    )


@dataclass(frozen=True, slots=True, eq=False)
class MomentBaselines:
    """What noised moments give the owner without any trainer, to compare the trainers' work with.

    ``class_sums``: linear discriminants of the class sums; ``moments``: the model that they and the
    other moments determine, None where class sums alone were released; ``gradients``: the same
    after rounds of gradients, None without any. The last one there is names the public rows.
    """

    class_sums: Scores
    moments: MomentModel | None
    gradients: MomentModel | None = None


@dataclass(frozen=True, slots=True)
class HeldOutSamples:
    """Clean rows of a split that never leaves, as the segments should see them.

    ``baselines``: what is scored on them beside the delivered model, if there is anything.
    """

    split: Split
    front: Front
    releaser: RowReleaser
    baselines: MomentBaselines | None = None

    def clean_batches(self) -> Iterator[tuple[Tensor, NDArray[np.int64]]]:
        """Yield clean rows of all samples, float32 [n, ...], and their classes, int64 [n]."""
        for start in range(0, len(self.split), _BATCH):
            ids = np.arange(start, min(start + _BATCH, len(self.split)))
            rows = self.front.apply(self.split.read(ids))
            # Clipped as the rows the segments were trained on, but without noise: so the owner uses
            # the delivered model on its own samples, which have no reason to be released.
            flat = self.releaser.clean_rows(rows.reshape(len(ids), -1))
            clean = torch.from_numpy(flat.reshape(len(ids), *self.front.output_shape))
            yield clean, self.split.labels(ids)


@dataclass(frozen=True, slots=True)
class CleanScores:
    """Quality on clean held-out samples.

    ``model``: of what the owner gets. Where the front ends in class scores, ``front`` is what these
    reach alone, and ``network`` what the trainers' network reaches alone; else None. Where moments
    were released, ``class_sums`` and ``moments`` are what the owner reaches with them alone, and
    ``gradients`` with the gradients too.
    """

    model: Score
    front: Score | None = None
    network: Score | None = None
    class_sums: Score | None = None
    moments: Score | None = None
    gradients: Score | None = None


@torch.no_grad()
def evaluate_clean(
    model: nn.Sequential,
    batches: Iterable[tuple[Tensor, NDArray[np.int64]]],
    label_map: LabelMap,
    *,
    temperature: float | None,
    baselines: MomentBaselines | None = None,
) -> CleanScores:
    """Evaluate on clean held-out activations that never leave the owner.

    ``temperature``: rows are [n, K], probabilities of the classes to the power 1 / ``temperature``,
    up to a factor a row; None where they are anything else. ``baselines`` are scored on the same
    rows.
    """
    model.eval()
    networks, fronts, truths, flat = [], [], [], []
    for rows, classes in batches:
        networks.append(evaluate_logits(model(rows).float(), label_map))
        truths.append(classes)
        if baselines is not None:
            flat.append(rows.flatten(1))
        if temperature is not None:
            # Probabilities to the power of the temperature: the softmax as it was before it was
            # softened.
            fronts.append(_normalised(rows.double().numpy() ** temperature))
    network, classes = np.concatenate(networks), np.concatenate(truths)
    if baselines is not None:
        clean = torch.cat(flat)
        sums = baselines.class_sums.apply(clean).double().numpy()
        linear = [
            None
            if one is None
            else evaluate_probabilities(one.class_probabilities(clean.double().numpy()), classes)
            for one in (baselines.moments, baselines.gradients)
        ]
        return CleanScores(
            model=evaluate_probabilities(network, classes),
            class_sums=evaluate_probabilities(sums, classes),
            moments=linear[0],
            gradients=linear[1],
        )
    if temperature is None:
        return CleanScores(evaluate_probabilities(network, classes))
    front = np.concatenate(fronts)
    return CleanScores(
        model=evaluate_probabilities(_normalised(network * front), classes),
        front=evaluate_probabilities(front, classes),
        network=evaluate_probabilities(network, classes),
    )


def _normalised(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Make rows [n, K] add up to 1; what is not positive counts as the smallest number there is."""
    # float32 scores may underflow to 0; in a product that would be a veto by accident.
    positive = np.maximum(scores, np.finfo(np.float64).tiny)
    normalised: NDArray[np.float64] = positive / positive.sum(axis=1, keepdims=True)
    return normalised
