"""Rows as narrow vectors: principal components, of the rows and of means over their maps."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["row_principal_components", "row_representations"]

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
    found = {"rows": row_principal_components(rows.reshape(len(rows), -1), seed, width)}
    if rows.ndim == 4:
        n, channels, high, wide = rows.shape
        for grid in _GRIDS:
            # A grid that does not divide the map would average unequal squares.
            if high % grid == 0 and wide % grid == 0 and grid < high:
                squares = rows.reshape(n, channels, grid, high // grid, grid, wide // grid)
                pooled = squares.mean(axis=(3, 5)).reshape(n, -1)
                found[f"pool {grid}"] = row_principal_components(pooled, seed, width)
    return found


def row_principal_components(
    rows: NDArray[np.float32], seed: int, width: int
) -> NDArray[np.float32]:
    """Return the first principal components [n, width] of rows [n, d]; narrow rows as they are.

    Randomised (Halko, Martinsson and Tropp 2011), fitted on at most 4,000 rows.
    """
    from sklearn.decomposition import PCA

    # Narrow rows stay as they are: a rotation would change nothing.
    if rows.shape[1] <= width:
        return np.asarray(rows, dtype=np.float32)
    # Axes need no more rows than these; all rows are projected.
    chosen = np.random.default_rng(seed).permutation(len(rows))[:_FIT_ROWS]
    fitted = rows[np.sort(chosen)]
    kept = min(width, len(fitted))
    model = PCA(kept, svd_solver="randomized", iterated_power=2, random_state=seed).fit(fitted)
    axes = np.asarray(model.components_, dtype=np.float32).T
    offset = np.asarray(model.mean_, dtype=np.float32) @ axes
    return np.asarray(rows @ axes - offset, dtype=np.float32)
