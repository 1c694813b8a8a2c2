"""Clip rows and cut them to integers without ever lengthening them.

Rows are clipped in float64, divided by the power-of-two grid g (exact) and truncated towards
zero. Float64 rounding could still leave a row just outside the ball, so sum(n_i^2) is compared
with floor((C / g)^2) in integers; a row that fails is clipped again at C (1 - 2^-30), which
leaves room for every rounding of a row of up to 2^21 numbers (relative error below 2^-31).

Each step treats a row by itself, so a row's integers do not depend on its batch-mates.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from clicooper_hpc.errors import DataError
from clicooper_hpc.privacy.release_spec import ReleaseSpec
from clicooper_hpc.privacy.sensitivity import Guarantee

__all__ = ["clip_rows", "clip_to_grid"]

_INNER = 1 - 2.0**-30


def clip_rows(
    rows: NDArray[Any], guarantee: Guarantee, ids: NDArray[np.int64] | None = None
) -> NDArray[np.float64]:
    """Clip rows to the set the sensitivity was computed for.

    Parameters
    ----------
    rows
        float32 or float64 [n, d].
    guarantee
        Unit, clip bound, dimension and sign of the rows.
    ids
        int64 [n], sample ids to name in an error.

    Returns
    -------
    NDArray[np.float64]
        [n, d]: the nearest point of the clip set, up to float64 rounding.

    Raises
    ------
    DataError
        When a row holds NaN or infinity: there is no nearest point, so no guarantee.
    """
    return _project(_checked(rows, guarantee, ids), guarantee, guarantee.clip)


def clip_to_grid(
    rows: NDArray[Any], spec: ReleaseSpec, ids: NDArray[np.int64] | None = None
) -> NDArray[np.int32]:
    """Clip rows and cut them to integer multiples of the grid.

    Parameters
    ----------
    rows
        float32 or float64 [n, d].
    spec
        The solved mechanism.
    ids
        int64 [n], sample ids to name in an error.

    Returns
    -------
    NDArray[np.int32]
        [n, d]. For the sample and metric units the squares of a row sum to at most
        ``spec.squared_norm_limit``; for the element unit ``|n| <= c / g``.

    Raises
    ------
    DataError
        When a row holds NaN or infinity.
    """
    guarantee = spec.guarantee
    exact = _checked(rows, guarantee, ids)
    integers = _cut(_project(exact, guarantee, guarantee.clip), spec)
    if guarantee.unit != "element":
        # In integers, since the float64 norm of a clipped row may be off by its roundings.
        outside = np.flatnonzero(_squared_norms(integers) > spec.squared_norm_limit)
        if outside.size:
            inner = _cut(_project(exact[outside], guarantee, guarantee.clip * _INNER), spec)
            if np.any(_squared_norms(inner) > spec.squared_norm_limit):
                raise ArithmeticError("a clipped row is longer than its bound")
            integers[outside] = inner
    return integers.astype(np.int32)


def _checked(
    rows: NDArray[Any], guarantee: Guarantee, ids: NDArray[np.int64] | None
) -> NDArray[np.float64]:
    if rows.ndim != 2 or rows.shape[1] != guarantee.dimension:
        raise ValueError(f"rows must be [n, {guarantee.dimension}], not {list(rows.shape)}")
    if rows.dtype not in (np.float32, np.float64):
        raise ValueError(f"rows must be float32 or float64, not {rows.dtype}")
    # Contiguous, so that a row's sum is added up in the same order whatever the batch.
    exact = np.ascontiguousarray(rows, dtype=np.float64)
    broken = np.flatnonzero(~np.isfinite(exact).all(axis=1))
    if broken.size:
        row = int(broken[0])
        name = f"sample {int(ids[row])}" if ids is not None else f"row {row}"
        column = int(np.flatnonzero(~np.isfinite(exact[row]))[0])
        raise DataError(
            f"the front made {exact[row, column]} at position {column} "
            f"({broken.size} such rows in this batch)",
            where=name,
            remedy="Such a row cannot be clipped; check the sample and the front's weights.",
        )
    return exact


def _project(rows: NDArray[np.float64], guarantee: Guarantee, radius: float) -> NDArray[np.float64]:
    if guarantee.unit == "element":
        return np.clip(rows, 0.0 if guarantee.non_negative else -radius, radius)
    # Set to zero here, not trusted: the smaller sensitivity sqrt(2) C must hold whatever a front
    # does.
    if guarantee.non_negative:
        rows = np.maximum(rows, 0.0)
    # Scaled by a row's largest number first, so that no square overflows.
    largest = np.max(np.abs(rows), axis=1, keepdims=True)
    scale = np.maximum(largest, radius)
    unit = rows / scale
    norms = np.sqrt(np.sum(unit * unit, axis=1, keepdims=True))
    bound = radius / scale
    return np.where(norms > bound, unit * (radius / np.maximum(norms, bound)), rows)


def _cut(rows: NDArray[np.float64], spec: ReleaseSpec) -> NDArray[np.int64]:
    # Towards zero: rounding to nearest could lengthen a row, and would have to be paid for with
    # sqrt(d) g a row.
    return np.trunc(rows / spec.grid).astype(np.int64)


def _squared_norms(integers: NDArray[np.int64]) -> NDArray[np.int64]:
    # |n| < 2^24 in a row whose norm is near C / g < 2^24, so the sum is far below 2^63.
    norms: NDArray[np.int64] = np.sum(integers * integers, axis=1)
    return norms
