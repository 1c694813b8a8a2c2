"""Rows that stand in for samples: recoloured public rows, and mixes of two of them.

A mix is mean + cos(a) (x - mean) + sin(a) (x' - mean) for two public rows x and x' at an angle a
between 0 and 45 degrees. The mixes of independent rows have the mean and covariance of the rows
themselves, so the moments that the rows were recoloured to hold for mixes too. They cost no
privacy: which rows are mixed, and how, depends on their numbers alone.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["SyntheticRows"]


@dataclass(frozen=True, slots=True, eq=False)
class SyntheticRows:
    """Recoloured public rows, then ``mixes`` times as many mixes of them: a `RowSource`.

    Attributes
    ----------
    table
        Recoloured public rows, float32 [m, p].
    centre
        Their mean, float64 [p].
    names
        Class that each row is to be named for, int64 [m * (1 + mixes)].
    """

    table: NDArray[np.float32]
    centre: NDArray[np.float64]
    names: NDArray[np.int64]

    @property
    def row_shape(self) -> tuple[int, ...]:
        """Shape of one row."""
        return (self.table.shape[1],)

    def __len__(self) -> int:
        return len(self.names)

    def compute_rows(self, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return rows float32 [n, p]."""
        return mixed_rows(self.table, self.centre, ids)

    def true_classes(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the names int64 [n]: these rows have no other class."""
        return self.names[ids]


def mixed_rows(
    table: NDArray[np.float32], centre: NDArray[np.float64], ids: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Return synthetic rows ``ids`` int64 [n] of ``table`` float32 [m, p]: float32 [n, p].

    The first m are those of the table itself.
    """
    rounds, first = np.divmod(ids, len(table))
    rows = table[first].copy()
    for mix in np.unique(rounds[rounds > 0]):
        second, angles = _mix_draw(int(mix), len(table))
        chosen = np.flatnonzero(rounds == mix)
        own = first[chosen]
        angle = angles[own][:, np.newaxis]
        mixed = np.cos(angle) * (table[own] - centre) + np.sin(angle) * (
            table[second[own]] - centre
        )
        rows[chosen] = (centre + mixed).astype(np.float32)
    return rows


@functools.lru_cache(maxsize=64)
def _mix_draw(mix: int, rows: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the second row of each mix of a round, int64 [rows], and its angle, float64 [rows]."""
    # The legacy generator: its numbers are the same in every version of NumPy, and a restart under
    # another version must release the same rows.
    random = np.random.RandomState(mix)
    second = random.permutation(rows).astype(np.int64)
    return second, random.uniform(0.0, np.pi / 4, rows)
