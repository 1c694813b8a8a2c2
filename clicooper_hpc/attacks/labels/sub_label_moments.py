"""Rows made narrow, and what their sub-labels' means say: whitening, noise filter, main factors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "SubLabelMoments",
    "principal_components",
    "row_representations",
    "sub_label_moments",
    "unit_rows",
]

_FIT_ROWS = 4000
_GRIDS = (1, 2)


def row_representations(
    rows: NDArray[np.float32], seed: int, *, width: int = 192
) -> dict[str, NDArray[np.float32]]:
    """Return rows [n, ...] as [n, at most width] in the ways an attacker would try.

    ``rows`` is the flat row by principal components; for maps [n, channels, height, width] also
    ``pool 1`` and ``pool 2``: means over a grid of that many squares a side, which average noise
    away. The first entry is ``rows``.
    """
    found = {"rows": principal_components(rows.reshape(len(rows), -1), seed, width)}
    if rows.ndim == 4:
        n, channels, high, wide = rows.shape
        for grid in _GRIDS:
            if high % grid == 0 and wide % grid == 0 and grid < high:
                squares = rows.reshape(n, channels, grid, high // grid, grid, wide // grid)
                pooled = squares.mean(axis=(3, 5)).reshape(n, -1)
                found[f"pool {grid}"] = principal_components(pooled, seed, width)
    return found


def principal_components(rows: NDArray[np.float32], seed: int, width: int) -> NDArray[np.float32]:
    """Return the first principal components [n, width] of rows [n, d]; narrow rows as they are.

    Randomised (Halko, Martinsson and Tropp 2011), fitted on at most 4,000 rows.
    """
    from sklearn.decomposition import PCA

    if rows.shape[1] <= width:
        return np.asarray(rows, dtype=np.float32)
    chosen = np.random.default_rng(seed).permutation(len(rows))[:_FIT_ROWS]
    fitted = rows[np.sort(chosen)]
    kept = min(width, len(fitted))
    model = PCA(kept, svd_solver="randomized", iterated_power=2, random_state=seed).fit(fitted)
    axes = np.asarray(model.components_, dtype=np.float32).T
    offset = np.asarray(model.mean_, dtype=np.float32) @ axes
    return np.asarray(rows @ axes - offset, dtype=np.float32)


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
    means[counts == 0] = values.mean(axis=0)
    apart = values - means[labels]
    freedom = max(len(values) - int(np.count_nonzero(counts)), 1)
    return SubLabelMoments(means, counts, apart.T @ apart / freedom)


def unit_rows(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return points [s, d] divided by their norms."""
    norms = np.linalg.norm(points, axis=1, keepdims=True)
    return np.asarray(points / np.maximum(norms, 1e-12), dtype=np.float64)
