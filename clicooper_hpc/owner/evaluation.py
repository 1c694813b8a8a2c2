"""Quality of the delivered model on held-out samples: front, segments and label map together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from clicooper_hpc.data.split import Split
from clicooper_hpc.fronts.operations import Scores
from clicooper_hpc.owner.class_pooling import ClassPooling, class_scores_opinion, pool_opinions
from clicooper_hpc.owner.clean_rows import CleanRows
from clicooper_hpc.owner.moment_model import MomentModel
from clicooper_hpc.privacy.label_map import LabelMap
from clicooper_hpc.runstore.confusion import ConfusionMatrix, count_confusions

__all__ = [
    "EVALUATION_ROWS",
    "CleanEvaluation",
    "CleanScores",
    "HeldOutSamples",
    "MomentBaselines",
    "Score",
    "evaluate_clean",
    "evaluate_probabilities",
]

#: Rows that the network sees at once.
EVALUATION_ROWS = 256


@dataclass(frozen=True, slots=True)
class Score:
    """Quality on ``samples`` samples: top-1 accuracy in [0, 1], mean cross-entropy in nats."""

    accuracy: float
    loss: float
    samples: int


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

    ``rows`` makes them of raw samples.
    ``baselines``: what is scored on them beside the delivered model, if there is anything.
    """

    split: Split
    rows: CleanRows
    baselines: MomentBaselines | None = None

    @torch.no_grad()
    def clean_batches(self) -> Iterator[tuple[Tensor, NDArray[np.int64]]]:
        """Yield clean rows of all samples, float32 [n, ...], and their classes, int64 [n]."""
        for start in range(0, len(self.split), EVALUATION_ROWS):
            ids = np.arange(start, min(start + EVALUATION_ROWS, len(self.split)))
            yield self.rows(torch.from_numpy(self.split.read(ids))), self.split.labels(ids)


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


@dataclass(frozen=True, slots=True)
class CleanEvaluation:
    """Scores on clean held-out samples; the model's answers by true and predicted class.

    Scores are published, ``confusion`` is for the owner alone.
    """

    scores: CleanScores
    confusion: ConfusionMatrix


@torch.no_grad()
def evaluate_clean(
    model: nn.Sequential,
    batches: Iterable[tuple[Tensor, NDArray[np.int64]]],
    label_map: LabelMap,
    *,
    temperature: float | None,
    baselines: MomentBaselines | None = None,
) -> CleanEvaluation:
    """Evaluate on clean held-out activations that never leave the owner.

    ``temperature``: rows are [n, K], probabilities of the classes to the power 1 / ``temperature``,
    up to a factor a row; None where they are anything else. ``baselines`` are scored on the same
    rows.
    """
    model.eval()
    pooling = ClassPooling(label_map)
    networks, fronts, truths, flat = [], [], [], []
    for rows, classes in batches:
        networks.append(pooling(model(rows).float()))
        truths.append(classes)
        if baselines is not None:
            flat.append(rows.flatten(1))
        if temperature is not None:
            fronts.append(class_scores_opinion(rows, temperature))
    network, classes = torch.cat(networks), np.concatenate(truths)
    if baselines is not None:
        clean = torch.cat(flat)
        linear = [
            None
            if one is None
            else evaluate_probabilities(one.class_probabilities(clean.double().numpy()), classes)
            for one in (baselines.moments, baselines.gradients)
        ]
        scores = CleanScores(
            model=_evaluate(network, classes),
            class_sums=_evaluate(baselines.class_sums.apply(clean), classes),
            moments=linear[0],
            gradients=linear[1],
        )
        return CleanEvaluation(scores, _confusion(network, classes))
    if temperature is None:
        return CleanEvaluation(
            CleanScores(_evaluate(network, classes)), _confusion(network, classes)
        )
    front = torch.cat(fronts)
    pooled = pool_opinions(network, front)
    scores = CleanScores(
        model=_evaluate(pooled, classes),
        front=_evaluate(front, classes),
        network=_evaluate(network, classes),
    )
    return CleanEvaluation(scores, _confusion(pooled, classes))


def _confusion(probabilities: Tensor, classes: NDArray[np.int64]) -> ConfusionMatrix:
    # In float64 as the score is, so that both see the same largest one.
    predicted = probabilities.double().numpy().argmax(axis=1)
    return count_confusions(predicted, classes, probabilities.shape[1])


def _evaluate(probabilities: Tensor, classes: NDArray[np.int64]) -> Score:
    return evaluate_probabilities(probabilities.double().numpy(), classes)
