"""Row stores, and reading scattered rows from them with few and bounded reads.

HDF5 stores rows in chunks and decompresses a whole chunk to give one row of it; its own fancy
indexing works row by row. So wanted rows are sorted, joined into ranges inside or across
neighbouring chunks, and read range by range: each chunk once, never more than one range in memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from math import prod
from typing import Any, Protocol

import h5py
import numpy as np
from numpy.typing import NDArray

from clicooper_hpc.data.h5_format import h5_format_errors

__all__ = [
    "ArrayRowStore",
    "H5RowStore",
    "RowStore",
    "gather_store_rows",
    "iterate_store_rows",
    "plan_store_reads",
]

_PAGE_BYTES = 64 * 1024
# Bounds what one read holds in memory, and is long enough that a disk streams.
_RANGE_BYTES = 4 * 1024 * 1024


class RowStore(Protocol):
    """Rows that can be read range by range."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(n, ...): all rows."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Native-endian dtype of the rows as read."""

    @property
    def chunk_rows(self) -> int:
        """How many neighbouring rows one read costs at least."""

    @property
    def where(self) -> str:
        """File and data set, for messages."""

    def read_rows(self, start: int, stop: int) -> NDArray[Any]:
        """Return rows start..stop-1."""


def _row_bytes(store: RowStore) -> int:
    return max(1, prod(store.shape[1:]) * store.dtype.itemsize)


class ArrayRowStore:
    """Rows of an array in memory."""

    def __init__(self, array: NDArray[Any], where: str) -> None:
        self._array = array
        self.shape: tuple[int, ...] = array.shape
        self.dtype: np.dtype[Any] = array.dtype
        self.chunk_rows = max(1, len(array))  # a view of all rows costs nothing
        self.where = where

    def read_rows(self, start: int, stop: int) -> NDArray[Any]:
        """Return a view of rows start..stop-1."""
        return self._array[start:stop]


class H5RowStore:
    """Rows of an HDF5 data set, little- or big-endian on disk, native in memory."""

    def __init__(self, dataset: h5py.Dataset, where: str) -> None:
        self._dataset = dataset
        self.shape: tuple[int, ...] = tuple(int(n) for n in dataset.shape)
        self.dtype: np.dtype[Any] = dataset.dtype.newbyteorder("=")
        self.where = where
        if dataset.chunks:
            self.chunk_rows = int(dataset.chunks[0])
        else:
            # Not chunked: the operating system reads pages, so neighbours within one come for
            # nothing.
            self.chunk_rows = max(1, _PAGE_BYTES // _row_bytes(self))

    def read_rows(self, start: int, stop: int) -> NDArray[Any]:
        """Read rows start..stop-1; DataError naming file, data set and chunk if damaged."""
        # h5py would raise "Not a dataset", which says nothing about a file closed too early.
        if not self._dataset:
            raise ValueError(f"{self.where} was closed")
        with h5_format_errors(f"{self.where}, rows {start} to {stop - 1}"):
            try:
                values: NDArray[Any] = self._dataset[start:stop]
            # A range covers many chunks; once more, chunk by chunk, to name the damaged one.
            except (OSError, RuntimeError):
                self._read_chunks(start, stop)
                raise
        return values.astype(self.dtype, copy=False)

    def _read_chunks(self, start: int, stop: int) -> None:
        """Read chunk by chunk, to name the one that is damaged."""
        while start < stop:
            end = min(stop, (start // self.chunk_rows + 1) * self.chunk_rows)
            with h5_format_errors(f"{self.where}, rows {start} to {end - 1}"):
                self._dataset[start:end]
            start = end


def plan_store_reads(
    ids: NDArray[np.int64], *, chunk_rows: int, range_rows: int
) -> list[tuple[int, int, int, int]]:
    """Join sorted ids into ranges of rows to read.

    Parameters
    ----------
    ids
        Sorted row numbers, int64; repeats allowed.
    chunk_rows
        Rows per chunk. Two ids share a range only if no chunk between them goes unused.
    range_rows
        No range crosses a multiple of this (a multiple of `chunk_rows`).

    Returns
    -------
    list of (first, last, start, stop)
        ``ids[first:last]`` all lie in rows ``start..stop-1``.
    """
    if not len(ids):
        return []
    # A gap of less than a chunk is read through: the chunk must be decompressed anyway.
    gap = np.diff(ids // chunk_rows) > 1
    cuts = np.flatnonzero(gap | (np.diff(ids // range_rows) != 0)) + 1
    edges = [0, *cuts.tolist(), len(ids)]
    return [
        (first, last, int(ids[first]), int(ids[last - 1]) + 1) for first, last in pairwise(edges)
    ]


def _rows_per_range(store: RowStore) -> int:
    chunk_bytes = store.chunk_rows * _row_bytes(store)
    return store.chunk_rows * max(1, _RANGE_BYTES // chunk_bytes)


def gather_store_rows(
    store: RowStore, ids: NDArray[np.int64]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[Any]]]:
    """Yield (positions in ``ids``, row numbers, rows) until every id was served once.

    Holds one range of rows (4 MiB, or one chunk if that is larger) at a time.
    """
    # Sorted, each chunk is decompressed once whatever order the ids ask for.
    order = np.argsort(ids, kind="stable")
    ordered = ids[order]
    for first, last, start, stop in plan_store_reads(
        ordered, chunk_rows=store.chunk_rows, range_rows=_rows_per_range(store)
    ):
        numbers = ordered[first:last]
        yield order[first:last], numbers, store.read_rows(start, stop)[numbers - start]


def iterate_store_rows(
    store: RowStore, start: int, stop: int
) -> Iterator[tuple[int, NDArray[Any]]]:
    """Yield (number of the first row, rows) for rows start..stop-1 in order, range by range."""
    step = _rows_per_range(store)
    while start < stop:
        # Ranges end at multiples of the step, so that no chunk is split over two reads.
        end = min(stop, (start // step + 1) * step)
        yield start, store.read_rows(start, end)
        start = end
