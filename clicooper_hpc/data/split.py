"""One split of a data set, read lazily: rows as the front takes them, labels, fingerprint."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clicooper_hpc.data.row_store import RowStore, gather_store_rows, iterate_store_rows
from clicooper_hpc.digests import Digest, digest_chunks
from clicooper_hpc.errors import DataError

__all__ = ["Split", "scale_stored_rows"]

_FINGERPRINT_TAG = "clicooper/v1/split"


def scale_stored_rows(stored: NDArray[Any]) -> NDArray[np.float32]:
    """Return rows as fronts take them: [n, D] or [n, C, H, W], float32.

    ``stored`` is [n, D] or [n, H, W, C]: uint8, which is divided by 255 (to [0, 1]), or float32,
    which stays as it is.
    """
    scaled = stored
    if stored.dtype == np.uint8:
        scaled = stored.astype(np.float32)
        scaled /= np.float32(255)
    return scaled.transpose(0, 3, 1, 2) if scaled.ndim == 4 else scaled


class Split:
    """Samples 0..n-1 of one split. Nothing is read before it is asked for.

    Parameters
    ----------
    name
        "train", "validation" or "test".
    x, y
        Stores of the rows (n, ...) and of the int64 labels (n,).
    span
        Which stored rows this split shows; its sample ids are 0..len(span)-1.
    order
        See `selected`; None shows the whole span in the order it is stored.
    """

    def __init__(
        self,
        name: str,
        x: RowStore,
        y: RowStore,
        span: range | None = None,
        order: NDArray[np.int64] | None = None,
    ) -> None:
        self.name = name
        self._x = x
        self._y = y
        self._span = range(x.shape[0]) if span is None else span
        self._order = order

    def __len__(self) -> int:
        return len(self._span) if self._order is None else len(self._order)

    def __repr__(self) -> str:
        return f"Split({self.name!r}, {len(self)} x {self.row_shape}, {self.dtype})"

    @property
    def row_shape(self) -> tuple[int, ...]:
        """Shape of one sample as stored: (D,) or (H, W, C)."""
        return self._x.shape[1:]

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one sample as `read` returns it: (D,) or (C, H, W)."""
        shape = self.row_shape
        return (shape[2], shape[0], shape[1]) if len(shape) == 3 else shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Dtype as stored: uint8 or float32."""
        return self._x.dtype

    def read(self, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return samples in the order asked, repeats included.

        uint8 values are divided by 255 (to [0, 1]); float32 values are returned as they are.

        Parameters
        ----------
        ids
            Sample ids in [0, len), int64, shape (m,).

        Returns
        -------
        array
            float32, shape (m, D) or, for images, (m, C, H, W). Besides it, one range of the
            file (4 MiB or one chunk) is in memory while reading.

        Raises
        ------
        DataError
            If the file is damaged there, or a value is not finite.
        ValueError
            If an id is not a sample of this split.
        """
        stored_ids = self._stored(ids)
        out = np.empty((len(stored_ids), *self.input_shape), dtype=np.float32)
        for positions, numbers, values in gather_store_rows(self._x, stored_ids):
            if values.dtype != np.uint8:
                self._check_finite(numbers, values)
            out[positions] = scale_stored_rows(values)
        return out

    def labels(self, ids: NDArray[np.int64] | None = None) -> NDArray[np.int64]:
        """Return the class numbers of ``ids`` (default: all samples), int64, shape (m,)."""
        out = np.empty(len(self) if ids is None else len(ids), dtype=np.int64)
        if ids is None and self._order is None:
            first = self._span.start
            for start, values in iterate_store_rows(self._y, first, self._span.stop):
                out[start - first : start - first + len(values)] = values
        else:
            wanted = np.arange(len(self)) if ids is None else ids
            for positions, _, values in gather_store_rows(self._y, self._stored(wanted)):
                out[positions] = values
        return out

    def subset(self, ids_range: range) -> Split:
        """Return a view of neighbouring samples, renumbered from 0. Nothing is read.

        Raises
        ------
        ValueError
            If the range has another step than 1, is empty, or leaves this split.
        """
        if self._order is not None:
            raise ValueError("take the subset first, then the order")
        start, stop = ids_range.start, ids_range.stop
        if ids_range.step != 1 or not 0 <= start < stop <= len(self):
            raise ValueError(f"{ids_range} is not a range of the {len(self)} samples")
        return Split(self.name, self._x, self._y, self._span[start:stop])

    def reordered(self, order: NDArray[np.int64]) -> Split:
        """Return a view in which sample ``i`` is sample ``order[i]`` of this split.

        ``order`` int64 [len], a permutation. Reading in the new order jumps about in the file.
        """
        if not np.array_equal(np.sort(order), np.arange(len(self))):
            raise ValueError(f"that is not an order of the {len(self)} samples")
        return self.selected(order)

    def selected(self, ids: NDArray[np.int64]) -> Split:
        """Return a view of some samples: its sample ``i`` is sample ``ids[i]`` of this split.

        ``ids`` int64 [m], different samples. Reading them in their order jumps about in the file.
        """
        if len(ids) == 0 or len(np.unique(ids)) != len(ids):
            raise ValueError("those are not different samples")
        order = self._stored(ids) - self._span.start
        return Split(self.name, self._x, self._y, self._span, order)

    def fingerprint(self) -> Digest:
        """Digest shape, dtype, stored values and labels; streamed, never whole in memory.

        Two splits have the same fingerprint exactly if they hold the same rows and labels in
        the same stored order; how a file chunks, compresses or orders bytes does not matter, nor
        does the order of `reordered` and `selected`.
        """
        return digest_chunks(_FINGERPRINT_TAG, self._content())

    def _content(self) -> Iterator[bytes | memoryview]:
        header = {"dtype": str(self.dtype), "shape": [len(self), *self.row_shape]}
        yield json.dumps(header, sort_keys=True).encode("ascii") + b"\n"
        shows = None
        if self._order is not None:
            shows = np.zeros(len(self._span), dtype=np.bool_)
            shows[self._order] = True
        for store in (self._x, self._y):
            little = store.dtype.newbyteorder("<")
            for start, values in iterate_store_rows(store, self._span.start, self._span.stop):
                first = start - self._span.start
                shown = values if shows is None else values[shows[first : first + len(values)]]
                yield np.ascontiguousarray(shown, dtype=little).view(np.uint8).data

    def _stored(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        if ids.ndim != 1 or ids.dtype.kind not in "iu":
            raise ValueError(f"ids have dtype {ids.dtype} and shape {ids.shape}, not int64 (m,)")
        if len(ids) and not 0 <= int(ids.min()) <= int(ids.max()) < len(self):
            raise ValueError(f"ids {ids.min()}..{ids.max()} leave the {len(self)} samples")
        if self._order is not None:
            ids = self._order[ids]
        return ids.astype(np.int64) + self._span.start

    def _check_finite(self, numbers: NDArray[np.int64], values: NDArray[Any]) -> None:
        finite = np.isfinite(values).reshape(len(values), -1).all(axis=1)
        if not finite.all():
            raise DataError(
                "holds a value that is not finite",
                where=f"{self._x.where}, row {int(numbers[~finite][0])}",
                remedy="Clean the data and import it again",
            )
