"""Voronoi cells of the released rows, assigned in integers.

A cell is a function of what the trainers already hold, so naming it costs no privacy. A sample
must land in the same cell on every machine and in every batch: rows and centroids are rounded to
16-bit integers, which makes every distance an exact integer however the sum is ordered.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clicooper_hpc.errors import DataError

__all__ = ["Cells", "fit_cells"]

# Fitted rows fill 15 bits; later rows may be twice as far out before they are clamped. A distance
# then stays below 2^53 for up to 2^20 numbers a row, so float64 products of it are exact.
_FIT_BITS, _CLAMP = 15, 2**16
_MAX_DIMENSION = 2**20

# Rows the centroids are fitted on, and numbers in them; the rest of a large release adds nothing.
_FIT_ROWS, _FIT_NUMBERS = 20_000, 2**26
_ATTEMPTS = 4


@dataclass(frozen=True, slots=True, eq=False)
class Cells:
    """Centroids in units of ``step``.

    Parameters
    ----------
    centroids
        int64 [cells, d].
    step
        A power of two; rows are divided by it and rounded.
    """

    centroids: NDArray[np.int64]
    step: float

    def assign(self, rows: NDArray[np.float32]) -> NDArray[np.int64]:
        """Return the nearest centroid of each row, the lower number on a tie: int64 [n]."""
        if rows.ndim != 2 or rows.shape[1] != self.centroids.shape[1]:
            raise ValueError(f"rows must be [n, {self.centroids.shape[1]}], not {rows.shape}")
        points = _quantise(rows, self.step)
        centres = self.centroids.astype(np.float64)
        # |x - c|^2 without |x|^2, which all cells share.
        scores = np.sum(centres * centres, axis=1) - 2 * (points @ centres.T)
        nearest: NDArray[np.int64] = np.argmin(scores, axis=1).astype(np.int64)
        return nearest


def fit_cells(rows: NDArray[np.float32], cells: int, seed: int) -> Cells:
    """Fit cells to released rows with mini-batch k-means.

    Of several starts the one whose smallest cell is largest is kept: a nearly empty cell makes a
    sub-label that hardly occurs.

    Parameters
    ----------
    rows
        float32 [n, d], released rows.
    cells
        Number of cells, at least 1.
    seed
        Of the starts, in [0, 2^32 - 4].

    Raises
    ------
    DataError
        When the rows cannot fill that many cells.
    """
    from sklearn.cluster import MiniBatchKMeans

    n, d = rows.shape
    if d > _MAX_DIMENSION:
        raise ValueError(f"cells are exact up to {_MAX_DIMENSION} numbers a row, not {d}")
    used = rows[: min(n, _FIT_ROWS, max(cells * 20, _FIT_NUMBERS // d))]
    best: tuple[int, Cells | None] = (0, None)
    step = _step(used)
    points = _quantise(used, step)
    for attempt in range(_ATTEMPTS if len(used) >= cells else 0):
        means = MiniBatchKMeans(cells, n_init=1, batch_size=4096, random_state=seed + attempt)
        centroids = np.rint(means.fit(points).cluster_centers_).astype(np.int64)
        found = Cells(centroids, step)
        smallest = int(np.bincount(found.assign(used), minlength=cells).min())
        if smallest > best[0]:
            best = (smallest, found)
    if best[1] is None:
        raise DataError(
            f"{len(used)} released rows do not fill {cells} cells",
            where="labels.expansion",
            remedy="Lower labels.expansion or use labels.method = 'random'.",
        )
    return best[1]


def _step(rows: NDArray[np.float32]) -> float:
    largest = float(np.max(np.abs(rows), initial=0.0)) or 1.0
    return math.ldexp(1.0, math.frexp(largest)[1] - _FIT_BITS)


def _quantise(rows: NDArray[np.float32], step: float) -> NDArray[np.float64]:
    return np.clip(np.rint(rows.astype(np.float64) / step), -_CLAMP, _CLAMP)
