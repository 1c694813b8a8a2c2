"""Releasers: clip, noise and round rows of the front, or pass them on with privacy off."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from clicooper_hpc.privacy.clipping import clip_to_grid
from clicooper_hpc.privacy.noise import NoiseStream
from clicooper_hpc.privacy.release_spec import MAX_INTEGER, ReleaseSpec

__all__ = ["GaussianReleaser", "PlainReleaser", "RowReleaser"]


class RowReleaser(Protocol):
    """What the owner needs of either releaser."""

    def release_rows(self, rows: NDArray[Any], ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return what may leave the owner."""
        ...


class GaussianReleaser:
    """Clip, cut to the grid, add the sample's noise.

    Parameters
    ----------
    spec
        The solved mechanism.
    stream
        Noise of a release made with this very ``spec``.
    """

    __slots__ = ("_stream", "spec")

    def __init__(self, spec: ReleaseSpec, stream: NoiseStream) -> None:
        # Noise of another sigma would be added under this guarantee.
        if stream.context.spec != spec:
            raise ValueError("this noise stream was keyed for another mechanism")
        self.spec = spec
        self._stream = stream

    def __repr__(self) -> str:
        return f"GaussianReleaser({self._stream!r})"

    def release_rows(self, rows: NDArray[Any], ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the released rows: the same bits whenever rows and ids are the same.

        Parameters
        ----------
        rows
            float32 or float64 [n, d], straight from the front.
        ids
            int64 [n], sample ids within the split.

        Returns
        -------
        NDArray[np.float32]
            [n, d], exact integer multiples of ``spec.grid``.

        Raises
        ------
        DataError
            When a row holds NaN or infinity.
        """
        if ids.shape != rows.shape[:1]:
            raise ValueError(f"{len(rows)} rows, but sample ids of shape {list(ids.shape)}")
        total = clip_to_grid(rows, self.spec, ids) + self._stream.draw_noise(ids)
        # A bound on the output is post-processing: it keeps float32 exact in the 2^-75 case.
        exact = np.clip(total, -MAX_INTEGER, MAX_INTEGER).astype(np.float32)
        # Exact, since the grid is a power of two: the floats have no low bits to attack.
        released: NDArray[np.float32] = exact * np.float32(self.spec.grid)
        return released


class PlainReleaser:
    """Privacy off: rows leave the owner as they are."""

    __slots__ = ()

    def release_rows(self, rows: NDArray[Any], ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the rows as float32."""
        if ids.shape != rows.shape[:1]:
            raise ValueError(f"{len(rows)} rows, but sample ids of shape {list(ids.shape)}")
        return rows.astype(np.float32, copy=False)
