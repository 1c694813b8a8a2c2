"""Where rows that leave come from: samples behind the front, or rows made of noised moments."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from clicooper_hpc.data.split import Split
from clicooper_hpc.fronts.front import Front

__all__ = ["FrontRows", "RowSource"]


class RowSource(Protocol):
    """Rows 0..n-1, computed when they are asked for: the same bits each time."""

    @property
    def row_shape(self) -> tuple[int, ...]:
        """Shape of one row."""

    def __len__(self) -> int: ...

    def compute_rows(self, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return rows float32 [n, *row_shape], not yet clipped or noised."""

    def true_classes(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return classes int64 [n], for the owner's own evaluation."""


@dataclass(frozen=True, slots=True)
class FrontRows:
    """Rows of the samples of a split, behind the front."""

    front: Front
    split: Split

    @property
    def row_shape(self) -> tuple[int, ...]:
        """Shape of one row."""
        return self.front.output_shape

    def __len__(self) -> int:
        return len(self.split)

    def compute_rows(self, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return rows float32 [n, *row_shape], not yet clipped or noised."""
        return self.front.apply(self.split.read(ids))

    def true_classes(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return classes int64 [n], for the owner's own evaluation."""
        return self.split.labels(ids)
