"""Minimum, maximum, mean and deviation of every feature, or of every channel of images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["ValueMoments", "ValueStatistics"]


@dataclass(frozen=True, slots=True)
class ValueStatistics:
    """Statistics float64 [F] of F features, or channels, of rows as fronts take them.

    ``deviation`` is the standard deviation of all values, divided by their number.
    """

    minimum: NDArray[np.float64]
    maximum: NDArray[np.float64]
    mean: NDArray[np.float64]
    deviation: NDArray[np.float64]


class ValueMoments:
    """Takes rows block by block and gives their statistics."""

    def __init__(self) -> None:
        self._count = 0
        self._lowest: NDArray[np.float64] = np.zeros(0)
        self._highest = self._mean = self._squares = self._lowest

    def add_stored_rows(self, stored: NDArray[Any]) -> None:
        """Add rows as they are stored: [m, D] or [m, H, W, C], uint8 (divided by 255) or float32.

        Raises
        ------
        ValueError
            They have another number of features than those before.
        """
        flat = stored.reshape(-1, stored.shape[-1])
        if not len(flat):
            return
        scale = 1 / 255 if stored.dtype == np.uint8 else 1.0
        count, mean = len(flat), flat.mean(axis=0, dtype=np.float64) * scale
        squares = flat.var(axis=0, dtype=np.float64) * count * scale**2
        lowest = flat.min(axis=0).astype(np.float64) * scale
        highest = flat.max(axis=0).astype(np.float64) * scale
        if not self._count:
            self._lowest, self._highest, self._mean, self._squares = lowest, highest, mean, squares
            self._count = count
            return
        # Merged about both means (Chan et al.): sums of squares would lose small deviations.
        apart, whole = mean - self._mean, self._count + count
        self._squares = self._squares + squares + apart**2 * (self._count * count / whole)
        self._mean = self._mean + apart * (count / whole)
        self._lowest = np.minimum(self._lowest, lowest)
        self._highest = np.maximum(self._highest, highest)
        self._count = whole

    def value_statistics(self) -> ValueStatistics | None:
        """Return the statistics of all rows; None of none."""
        if not self._count:
            return None
        deviation = np.sqrt(self._squares / self._count)
        return ValueStatistics(self._lowest, self._highest, self._mean, deviation)
