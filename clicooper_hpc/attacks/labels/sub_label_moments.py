"""Rows made narrow, and what their sub-labels' means say: whitening, noise filter, main factors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "SubLabelMoments",
    "sub_label_moments",
    "unit_rows",
]


@dataclass(frozen=True, slots=True, eq=False)
class SubLabelMoments:
    """First and second moments by sub-label.

    Parameters
    ----------
    means
        float64 [s, d]; the mean of all rows where a sub-label has none.
    counts
        int64 [s].
    within
        float64 [d, d], pooled covariance of rows about their sub-label's mean, noise included.
    """

    means: NDArray[np.float64]
    counts: NDArray[np.int64]
    within: NDArray[np.float64]

    def whitener(self) -> NDArray[np.float64]:
        """Return A [d, d] with A^T within A = I, a thousandth of the mean variance added."""
        size = len(self.within)
        # Directions in which rows hardly vary would dominate whitened means.
        ridge = 1e-3 * float(np.trace(self.within)) / size + 1e-12
        values, vectors = np.linalg.eigh(self.within + ridge * np.eye(size))
        return np.asarray(vectors / np.sqrt(values), dtype=np.float64)

    def denoised(self, sigma: float) -> NDArray[np.float64]:
        """Return the means shrunk by the known noise: B (B + sigma^2 / n_s)^-1 (the Wiener filter).

        B is the covariance of the means less the mean noise in them. [s, d].
        """
        centre = np.average(self.means, axis=0, weights=np.maximum(self.counts, 1))
        apart = self.means - centre
        noise = sigma**2 / np.maximum(self.counts, 1)
        values, vectors = np.linalg.eigh(apart.T @ apart / len(apart))
        # What is left of the means' variance after the noise in them; negative estimates mean none.
        signal = np.maximum(values - float(noise.mean()), 0.0)
        gains = signal / np.maximum(signal[None, :] + noise[:, None], 1e-300)
        return np.asarray((apart @ vectors) * gains @ vectors.T, dtype=np.float64)

    def factors(self, count: int) -> NDArray[np.float64]:
        """Return whitened means on their ``count`` strongest directions: [s, at most count]."""
        return strongest_directions(self.means @ self.whitener(), self.counts, count)


def strongest_directions(
    points: NDArray[np.float64], counts: NDArray[np.int64], count: int
) -> NDArray[np.float64]:
    """Return points [s, d], centred, on their first right singular vectors, weighted by count."""
    # Means of many rows are surer.
    weights = np.sqrt(np.maximum(counts, 1).astype(np.float64))
    apart = points - np.average(points, axis=0, weights=weights**2)
    _, _, axes = np.linalg.svd(apart * weights[:, None], full_matrices=False)
    return np.asarray(apart @ axes[:count].T, dtype=np.float64)


def sub_label_moments(
    rows: NDArray[np.float32], labels: NDArray[np.int64], sub_labels: int
) -> SubLabelMoments:
    """Return the moments of rows [n, d] by sub-label [n] in [0, sub_labels)."""
    values = rows.astype(np.float64)
    counts = np.bincount(labels, minlength=sub_labels).astype(np.int64)
    sums = np.zeros((sub_labels, values.shape[1]))
    np.add.at(sums, labels, values)
    means = sums / np.maximum(counts, 1)[:, None]
    # The centre: a sub-label without rows shall lie nowhere in particular.
    means[counts == 0] = values.mean(axis=0)
    apart = values - means[labels]
    # A mean was fitted for each sub-label that has rows.
    freedom = max(len(values) - int(np.count_nonzero(counts)), 1)
    return SubLabelMoments(means, counts, apart.T @ apart / freedom)


def unit_rows(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return points [s, d] divided by their norms."""
    norms = np.linalg.norm(points, axis=1, keepdims=True)
    return np.asarray(points / np.maximum(norms, 1e-12), dtype=np.float64)
