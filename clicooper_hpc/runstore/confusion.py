"""`ConfusionMatrix`: counts of samples by true and predicted class, and what follows from them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["ConfusionMatrix", "count_confusions"]


@dataclass(frozen=True, slots=True, eq=False)
class ConfusionMatrix:
    """Counts int64 [K, K], K > 0: rows are true classes, columns predicted ones.

    Where a figure would divide by 0 it is NaN: recall of a class without samples, precision of one
    that is never predicted.
    """

    counts: NDArray[np.int64]

    @property
    def samples(self) -> int:
        """How many were classified."""
        return int(self.counts.sum())

    @property
    def right(self) -> int:
        """How many of them rightly."""
        return int(self.counts.trace())

    @property
    def recalls(self) -> NDArray[np.float64]:
        """Of the samples of each class the share predicted as it, float64 [K]."""
        return _shares(self.counts.diagonal(), self.counts.sum(axis=1))

    @property
    def precisions(self) -> NDArray[np.float64]:
        """Of the predictions of each class the share that is right, float64 [K]."""
        return _shares(self.counts.diagonal(), self.counts.sum(axis=0))

    @property
    def balanced_accuracy(self) -> float:
        """Mean recall of the classes that have samples; NaN without any."""
        recalls = self.recalls[~np.isnan(self.recalls)]
        return float(recalls.mean()) if len(recalls) else float("nan")

    @property
    def majority_share(self) -> float:
        """Accuracy of always answering the class that has the most samples; NaN without any."""
        return float(_shares(self.counts.sum(axis=1).max(), np.int64(self.samples)))

    @property
    def chance(self) -> float:
        """Accuracy of guessing: 1 / K."""
        return 1 / len(self.counts)

    def worst_confusions(self, most: int) -> list[tuple[int, int, int]]:
        """Return the ``most`` frequent errors: true class, predicted class, count."""
        errors = self.counts - np.diag(self.counts.diagonal())
        # Stable, so that equal counts come in the order of the classes.
        order = np.argsort(-errors, axis=None, kind="stable")[:most]
        found = [(int(flat) // len(errors), int(flat) % len(errors)) for flat in order]
        return [(true, said, int(errors[true, said])) for true, said in found if errors[true, said]]


def count_confusions(
    predicted: NDArray[np.int64], classes: NDArray[np.int64], num_classes: int
) -> ConfusionMatrix:
    """Count samples by true class [n] and ``predicted`` class [n], both in 0..``num_classes``-1."""
    cells = np.bincount(classes * num_classes + predicted, minlength=num_classes**2)
    return ConfusionMatrix(cells.reshape(num_classes, num_classes).astype(np.int64))


def _shares(
    parts: NDArray[np.int64] | np.int64, wholes: NDArray[np.int64] | np.int64
) -> NDArray[np.float64]:
    with np.errstate(invalid="ignore"):
        return np.true_divide(parts, wholes, dtype=np.float64)
