"""Anchors of the label map: secret Voronoi cells of released rows, other ones for each class.

Each class has its own secret anchors, drawn alike for all classes; a sample is named by the anchor
of its class nearest to its *released* row. The name is a function of what trainers already hold and
of the owner's key, so it costs no privacy. Mean rows of the names then lie where the anchors lie,
whatever the class. Cells common to all classes do not hold: once the mean of a cell is taken off,
the classes line up over all cells. Nor do fewer than 8 names a class: the mean rows of a class's
names average to nearly the mean of all rows, and few other sets of names do.

Distances are taken in the coordinates that tell the classes apart best (linear discriminants of the
released rows), for there the mean rows would give the classes away.

A sample must land in the same cell on every machine and in every batch: rows, directions and
anchors are integers, small enough that float64 sums of their products are exact in any order.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clicooper_hpc.errors import DataError

__all__ = ["Anchors", "fit_anchors", "summarise_for_anchors"]

# Fitted rows fill 15 bits and are clamped at twice that. Columns of directions have an L1 norm
# below 2^36, so every partial sum stays below 2^52; coordinates are cut to 16 bits again.
_ROW_BITS, _ROW_CLAMP = 15, 2**16
_COLUMN_BITS = 36
_COORDINATE_BITS, _COORDINATE_CLAMP = 15, 2**17

# Convolution maps are averaged over this many by this many tiles: class structure lies in coarse
# channel means, and the noise of a tile's mean is thin enough to estimate directions from.
_TILES = 2
_MAX_DIMENSION = 4096


def summarise_for_anchors(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return what directions are taken of: float32 [n, d], [n, c, h, w] averaged over tiles.

    Parameters
    ----------
    rows
        Released rows float32 [n, ...].
    """
    if rows.ndim == 4:
        n, c, h, w = rows.shape
        # Float32 sums of a tile depend on its memory order; float64 ones of float32 numbers on a
        # common power-of-two grid (as releases are) do not.
        tall, wide = min(_TILES, h), min(_TILES, w)
        used = rows[:, :, : h - h % tall, : w - w % wide].astype(np.float64)
        tiles = used.reshape(n, c, tall, h // tall, wide, w // wide).sum(axis=(3, 5))
        return np.asarray(tiles.reshape(n, -1), dtype=np.float32)
    return rows.reshape(len(rows), -1)


@dataclass(frozen=True, slots=True, eq=False)
class Anchors:
    """Directions and anchors.

    Parameters
    ----------
    directions
        int64 [d, q], columns of the map from summaries in units of ``step`` to coordinates.
    shift
        Coordinates are divided by 2^shift and rounded.
    anchors
        int64 [K, gamma, q], in these coordinates.
    step
        A power of two.
    """

    directions: NDArray[np.int64]
    shift: int
    anchors: NDArray[np.int64]
    step: float

    def assign_anchors(
        self, rows: NDArray[np.float32], classes: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """Return the nearest anchor of each row's class, the lower number on a tie: int64 [n].

        Parameters
        ----------
        rows
            float32 [n, ...], released rows.
        classes
            int64 [n] in [0, K).
        """
        return self.assign_summaries(summarise_for_anchors(rows), classes)

    def assign_summaries(
        self, points: NDArray[np.float32], classes: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """As `assign_anchors`, of `summarise_for_anchors` float32 [n, d]."""
        if points.shape[1] != len(self.directions):
            raise ValueError(
                f"rows must have {len(self.directions)} numbers, not {points.shape[1]}"
            )
        # Integers only from here on: a sample must land in the same cell on every machine.
        places = _coordinates(points, self.step, self.directions, self.shift)
        found = np.empty(len(points), dtype=np.int64)
        for number in np.unique(classes):
            mine, anchors = classes == number, self.anchors[number].astype(np.float64)
            # |x - a|^2 without |x|^2, which all anchors share.
            scores = np.sum(anchors * anchors, axis=1) - 2 * (places[mine] @ anchors.T)
            found[mine] = np.argmin(scores, axis=1)
        return found


def fit_anchors(
    points: NDArray[np.float32],
    classes: NDArray[np.int64],
    count: int,
    expansion: int,
    seed: int,
) -> Anchors:
    """Draw anchors for each class among released rows of all classes.

    Parameters
    ----------
    points
        float32 [n, d], `summarise_for_anchors` of released rows.
    classes
        int64 [n] in [0, count).
    count, expansion
        Number of classes K, and gamma, anchors of each.
    seed
        Secret of the draw, 256 bits: whoever can try all seeds knows the anchors.

    Raises
    ------
    DataError
        When there are too few rows, or a class has none.
    """
    n, d = points.shape
    if d > _MAX_DIMENSION:
        raise DataError(
            f"anchors need directions in {d} numbers a row; the most is {_MAX_DIMENSION}",
            where="labels.method",
            remedy="Release fewer numbers (front.dim) or use labels.method = 'random'.",
        )
    present = np.bincount(classes, minlength=count)
    if n <= count * expansion or not present.all():
        raise DataError(
            f"{n} released rows of {np.count_nonzero(present)} classes are too few for "
            f"{expansion} names for each of {count} classes",
            where="labels.expansion",
            remedy="Lower labels.expansion.",
        )
    step = _power_of_two(float(np.max(np.abs(points), initial=0.0)), _ROW_BITS)
    whole = _quantise(points, step)
    directions = _discriminants(whole, classes, count)
    columns = np.abs(directions).sum(axis=0).max()
    unit = _power_of_two(float(columns), _COLUMN_BITS)
    integers = np.rint(directions / unit).astype(np.int64)
    largest = float(np.abs(whole @ integers.astype(np.float64)).max())
    shift = max(math.frexp(largest)[1] - _COORDINATE_BITS, 0)
    places = _coordinates(points, step, integers, shift)
    # Anchors are rows of all classes, drawn alike for each: mean rows of names then lie where
    # anchors lie, whatever the class.
    drawn = np.random.default_rng(seed)
    chosen = np.stack([drawn.permutation(n)[:expansion] for _ in range(count)])
    return Anchors(integers, shift, places[chosen].astype(np.int64), step)


def _discriminants(
    points: NDArray[np.float64], classes: NDArray[np.int64], count: int
) -> NDArray[np.float64]:
    """Return the linear discriminants [d, <= K - 1], within-class covariance the identity.

    Fisher's, with the covariance shrunk after Ledoit and Wolf ("A well-conditioned estimator for
    large-dimensional covariance matrices", J. Multivariate Analysis 88, 2004).
    """
    from sklearn.covariance import ledoit_wolf

    sizes = np.bincount(classes, minlength=count)
    sums = np.zeros((count, points.shape[1]))
    np.add.at(sums, classes, points)
    means = sums / sizes[:, None]
    # The covariance is shrunk towards a multiple of the identity; in units of the spread its
    # numbers stay near 1.
    scale = max(float(points.std()), 1.0)
    within, _ = ledoit_wolf((points - means[classes]) / scale, assume_centered=True)
    values, vectors = np.linalg.eigh(within)
    # Directions without variance would get infinite weight; the floor keeps them finite.
    whitener = vectors / np.sqrt(np.maximum(values, 1e-9 * values.max())) / scale
    spread = (means - means.mean(axis=0)) @ whitener
    _, _, axes = np.linalg.svd(spread * np.sqrt(sizes)[:, None], full_matrices=False)
    found: NDArray[np.float64] = whitener @ axes[: max(min(count - 1, len(axes)), 1)].T
    return found


def _power_of_two(largest: float, bits: int) -> float:
    """Return the unit in which ``largest`` fills ``bits`` bits."""
    return math.ldexp(1.0, math.frexp(largest or 1.0)[1] - bits)


def _quantise(points: NDArray[np.float32], step: float) -> NDArray[np.float64]:
    return np.clip(np.rint(points.astype(np.float64) / step), -_ROW_CLAMP, _ROW_CLAMP)


def _coordinates(
    points: NDArray[np.float32], step: float, directions: NDArray[np.int64], shift: int
) -> NDArray[np.float64]:
    exact = _quantise(points, step) @ directions.astype(np.float64)
    cut = np.rint(np.ldexp(exact, -shift))
    return np.clip(cut, -_COORDINATE_CLAMP, _COORDINATE_CLAMP)
