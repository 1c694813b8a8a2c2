"""`ReleaseCache`: where trainer 1 keeps released rows, so that the owner sends each only once."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from clicooper_hpc.errors import EnvironmentUnfitError, PeerError

__all__ = ["ReleaseCache", "open_release_cache"]


class ReleaseCache(Protocol):
    """Released rows by sample id."""

    def put_rows(self, ids: NDArray[np.int64], rows: Tensor) -> None:
        """Keep float32 ``rows`` [n, ...] of samples ``ids`` [n]."""

    def get_rows(self, ids: NDArray[np.int64]) -> Tensor:
        """Return the rows of ``ids`` in that order; every one must have been put."""


class _ArrayReleaseCache:
    """Rows in one array, which lives in memory or is mapped from a file."""

    def __init__(self, array: NDArray[np.float32]) -> None:
        self._array = array
        self._filled = np.zeros(len(array), dtype=bool)

    def put_rows(self, ids: NDArray[np.int64], rows: Tensor) -> None:
        self._array[ids] = rows.numpy()
        self._filled[ids] = True

    def get_rows(self, ids: NDArray[np.int64]) -> Tensor:
        # A row never received would be zeros, which train without an error.
        if not self._filled[ids].all():
            missing = int(ids[~self._filled[ids]][0])
            raise PeerError(f"the release cache was asked for sample {missing}, never received")
        return torch.from_numpy(np.ascontiguousarray(self._array[ids]))


def _map_cache_file(file: Path, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Map a new file that nobody else can read and that is gone when this process is.

    Its space is reserved at once: on a full disk a mapped page would otherwise kill the process.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    file.unlink(missing_ok=True)  # of a process that was killed in this very function
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.posix_fallocate(descriptor, 0, 4 * math.prod(shape))
        with os.fdopen(os.dup(descriptor), "r+b") as opened:
            return np.memmap(opened, dtype=np.float32, mode="r+", shape=shape)
    finally:
        os.close(descriptor)
        # At once: the mapping keeps the space, and no kill can leave released rows on disk.
        file.unlink()


def open_release_cache(
    where: str, *, samples: int, row_shape: tuple[int, ...], file: Path
) -> ReleaseCache | None:
    """Return the cache ``where`` ("memory", "disk") asks for, or None for "none".

    ``file`` is where "disk" puts ``samples`` x ``row_shape`` float32 numbers.
    """
    if where == "none" or samples == 0:
        return None
    shape = (samples, *row_shape)
    gib = 4 * float(np.prod(shape)) / 2**30
    try:
        if where == "memory":
            return _ArrayReleaseCache(np.zeros(shape, dtype=np.float32))
        return _ArrayReleaseCache(_map_cache_file(file, shape))
    except (MemoryError, OSError) as error:
        raise EnvironmentUnfitError(
            f"the release cache needs {gib:.1f} GiB: {error}",
            where=f'release.cache = "{where}"',
            remedy='Use release.cache = "disk" or "none"',
        ) from None
