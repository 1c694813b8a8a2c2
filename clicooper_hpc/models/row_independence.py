"""Whether a row's result is the same whatever rows it is computed with and wherever it stands.

One check, asked with two measures: of a network, that no layer mixes rows (within a tolerance, as
kernels may add in another order); of a front, that not a bit of a row depends on its neighbours,
since the row-wise privacy proof takes the clean row as a function of its sample alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
from torch import Tensor

__all__ = ["RowPlacement", "keeps_row_independence"]

_A = TypeVar("_A", Tensor, "np.ndarray[Any, Any]")


@dataclass(frozen=True, slots=True)
class RowPlacement(Generic[_A]):
    """A batch [n, ...] in which row ``rows[i]`` of the reference stands at place ``places[i]``."""

    batch: _A
    places: Sequence[int]
    rows: Sequence[int]


def keeps_row_independence(
    function: Callable[[_A], _A],
    reference: _A,
    placements: Iterable[RowPlacement[_A]],
    *,
    same: Callable[[_A, _A], bool],
) -> bool:
    """Return whether every placed row gives its result in the reference.

    Parameters
    ----------
    function
        Maps a batch [n, ...] to n results.
    reference
        Results [m, ...] of the rows as they are to be.
    placements
        Batches to try, in order; the first that fails ends it.
    same
        Whether two blocks of results agree: to the bit, or within what the caller allows.
    """
    return all(
        same(function(placement.batch)[list(placement.places)], reference[list(placement.rows)])
        for placement in placements
    )
