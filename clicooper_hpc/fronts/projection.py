"""A linear projection fitted on public data: PCA or LDA, with partial whitening.

The noise of a release grows with the number of coordinates, so a front should end in few (16 to
64). The directions come from public rows alone, pulled through the same front. ``whiten`` = w
divides each coordinate by its public standard deviation to the power w: 0 leaves the variances,
1 makes them equal, 0.5 (the default) is what worked best with noise (docs/fronts.md).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from clicooper_hpc.digests import Digest
from clicooper_hpc.errors import DataError, UsageError
from clicooper_hpc.fronts.operations import Linear
from clicooper_hpc.fronts.row_memory import row_key

__all__ = [
    "Projection",
    "PublicRows",
    "count_shared_rows",
    "fit_projection",
]

_EXACT_WIDTH = 4096  # up to here the covariance matrix is decomposed in full
_MOST_USABLE = 512  # more coordinates than this add noise to class sums and no signal


@dataclass(frozen=True, slots=True)
class Projection:
    """What to fit, to ``dim`` coordinates, with ``whiten`` in [0, 1].

    ``dim`` None: all usable coordinates. For ``"private-lda"`` it counts the principal directions
    before the class sums; LDA needs it.
    """

    method: Literal["pca", "lda", "private-lda"]
    dim: int | None
    whiten: float = 0.5

    def __post_init__(self) -> None:
        if self.method not in {"pca", "lda", "private-lda"}:
            raise UsageError(
                f"{self.method!r} is not 'pca', 'lda' or 'private-lda'", where="front.projection"
            )
        if self.dim is None and self.method == "lda":
            raise UsageError("LDA needs a number of coordinates", where="front.dim")
        if self.dim is not None and self.dim < 1:
            raise UsageError("must be at least 1", where="front.projection_dim")
        if not 0 <= self.whiten <= 1:
            raise UsageError("must be between 0 and 1", where="front.whiten")


@dataclass(frozen=True, slots=True, eq=False)
class PublicRows:
    """Public data to fit on: rows as the front takes them, labels for LDA, fingerprint, name.

    ``shared`` counts the rows known to be private rows too; any makes the guarantee conditional.
    """

    rows: NDArray[np.float32]
    labels: NDArray[np.int64] | None
    fingerprint: Digest
    name: str
    shared: int = 0

    def __repr__(self) -> str:
        return f"PublicRows(name={self.name!r}, rows={len(self.rows)})"


def count_shared_rows(
    public: Iterable[NDArray[np.float32]], private: Iterable[NDArray[np.float32]]
) -> int:
    """Count the public rows that are, bit for bit, among the private rows.

    ``public`` gives rows, ``private`` blocks of rows ``[n, ...]``: a split need not be in memory.
    Equal fingerprints show equal data sets only; this also finds a part, or another order.
    """
    known = {row_key(row) for block in private for row in block}
    return sum(row_key(row) in known for row in public)


def _pca(features: NDArray[np.float32], dim: int) -> NDArray[np.float64]:
    if features.shape[1] <= _EXACT_WIDTH:
        _, vectors = np.linalg.eigh(_covariance(features))
        leading: NDArray[np.float64] = vectors[:, ::-1][:, :dim]
        return leading
    from sklearn.decomposition import PCA  # late: scikit-learn takes a second

    model = PCA(n_components=dim, svd_solver="randomized", random_state=0)
    directions: NDArray[np.float64] = model.fit(features.astype(np.float64)).components_.T
    return directions


def _covariance(features: NDArray[np.float32]) -> NDArray[np.float64]:
    """Covariance float64 [p, p] of rows float32 [n, p]."""
    mean = _mean(features)
    total = np.zeros((len(mean), len(mean)))
    for block in _blocks(features):
        centred = block - mean
        total += centred.T @ centred
    covariance: NDArray[np.float64] = total / (len(features) - 1)
    return covariance


def _mean(features: NDArray[np.float32]) -> NDArray[np.float64]:
    mean: NDArray[np.float64] = features.mean(axis=0, dtype=np.float64)
    return mean


def _blocks(features: NDArray[np.float32]) -> Iterator[NDArray[np.float64]]:
    # In parts: thousands of numbers a row, in float64, would fill the memory.
    for start in range(0, len(features), 2048):
        yield features[start : start + 2048].astype(np.float64)


def _lda(
    features: NDArray[np.float32], labels: NDArray[np.int64] | None, dim: int
) -> NDArray[np.float64]:
    if labels is None or len(labels) != len(features):
        raise UsageError("LDA needs one public label per public row", where="front.projection")
    classes = len(np.unique(labels))
    if dim > classes - 1:
        raise UsageError(
            f"LDA on {classes} public classes gives at most {classes - 1} coordinates, not {dim}",
            where="front.projection_dim",
        )
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis  # late, as PCA

    # Ledoit-Wolf shrinkage keeps constant pixels from making the covariance singular.
    model = LinearDiscriminantAnalysis(solver="eigen", shrinkage="auto", n_components=dim)
    model.fit(features.astype(np.float64), labels)
    directions: NDArray[np.float64] = model.scalings_[:, :dim]
    return directions


def fit_projection(
    features: NDArray[np.float32], labels: NDArray[np.int64] | None, wanted: Projection
) -> Linear:
    """Fit ``"pca"`` or ``"lda"`` on public features ``[n, ...]``; deterministic on one machine.

    The sign of each direction is fixed by making its entry of largest magnitude positive.

    Raises
    ------
    DataError
        If the public rows are too few, or do not vary in ``dim`` directions.
    UsageError
        If ``dim`` is more than the features or classes allow.
    """
    flat = features.reshape(len(features), -1)
    count, width = flat.shape
    dim = _usable(flat) if wanted.dim is None else wanted.dim
    if dim > width:
        raise UsageError(
            f"{dim} coordinates cannot be made of {width}", where="front.projection_dim"
        )
    if count <= dim:
        raise DataError(f"{count} rows are too few for {dim} coordinates", where="public data")
    offset = _mean(flat)
    matrix = _signed(_pca(flat, dim) if wanted.method == "pca" else _lda(flat, labels, dim))
    projected = np.concatenate([(block - offset) @ matrix for block in _blocks(flat)])
    variance = projected.var(axis=0)
    # Whitening divides by these: a direction without variance would be noise blown up.
    if not np.isfinite(variance).all() or variance.min() <= 1e-12 * variance.max():
        raise DataError(f"the public rows vary in fewer than {dim} directions", where="public data")
    matrix = matrix / variance ** (wanted.whiten / 2)
    return Linear(torch.from_numpy(offset), torch.from_numpy(np.ascontiguousarray(matrix)))


def _usable(features: NDArray[np.float32]) -> int:
    """Count the directions the rows vary in, up to a bound: those with a millionth of the most."""
    count, width = features.shape
    most: int = min(count - 1, width, _MOST_USABLE)
    if width > _EXACT_WIDTH:
        return most
    values = np.linalg.eigvalsh(_covariance(features))
    # Directions with less hold next to nothing, and whitening would blow it up.
    return max(1, min(most, int((values > 1e-6 * values.max()).sum())))


def _signed(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """Turn each column such that its entry of largest magnitude is positive."""
    # The sign of an eigenvector is a whim of the library; fixed, the same data give the same front.
    largest = matrix[np.abs(matrix).argmax(axis=0), np.arange(matrix.shape[1])]
    signed: NDArray[np.float64] = matrix * np.where(largest < 0, -1.0, 1.0)
    return signed
