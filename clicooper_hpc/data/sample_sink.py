"""`SampleSink`: what importers hand samples to, a file being written or a model that answers."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["SampleSink"]


class SampleSink(Protocol):
    """Takes samples block by block, as they are stored."""

    @property
    def highest_label(self) -> int:
        """The highest class number so far in any split."""

    def append_samples(self, split: str, x: NDArray[Any], y: NDArray[np.int64]) -> None:
        """Take samples of a split: ``x`` uint8 or float32 [m, D] or [m, H, W, C], ``y`` [m]."""
