"""Outputs of rows that a front has computed before, found again by the rows' bytes.

Public rows go through a front several times: a projection is fitted on them, they are recoloured,
and released. Behind a large network each pass takes minutes. As a row's output depends on that row
alone, to the bit (`clicooper_hpc.fronts.row_blocks`), what is remembered is what would be computed.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

__all__ = ["RowMemory", "row_key"]


def row_key(row: NDArray[np.float32]) -> bytes:
    """Return what stands for one row: equal keys are equal bytes."""
    # Hashes, not rows: all rows of a data set would not fit into memory twice.
    return hashlib.blake2b(row.tobytes(), digest_size=16).digest()


@dataclass(frozen=True, slots=True, eq=False)
class RowMemory:
    """What the first ``operations`` operations of a front give for some rows.

    ``outputs`` is float32 ``[n, ...]``; ``places`` says by `row_key` which of them is whose.
    """

    operations: int
    outputs: NDArray[np.float32] = field(repr=False)
    places: dict[bytes, int] = field(repr=False)

    @classmethod
    def remember(
        cls, rows: NDArray[np.float32], outputs: NDArray[np.float32], operations: int
    ) -> RowMemory:
        """Remember ``outputs`` of ``rows``, float32 ``[n, ...]`` each."""
        places = {row_key(row): place for place, row in enumerate(rows)}
        return cls(operations, outputs, places)

    def recall(self, rows: NDArray[np.float32]) -> NDArray[np.int64]:
        """Return for each row its place in ``outputs``, int64 ``[n]``; -1 for a row not seen."""
        return np.array([self.places.get(row_key(row), -1) for row in rows], dtype=np.int64)
