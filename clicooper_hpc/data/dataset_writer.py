"""Writing a data set in the native format, as a stream of samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from math import prod
from pathlib import Path
from typing import Any, Self

import h5py
import numpy as np
from numpy.typing import NDArray

from clicooper_hpc.closing import Closing
from clicooper_hpc.data.atomic_h5_file import AtomicH5File
from clicooper_hpc.data.class_labels import check_class_labels, check_class_names
from clicooper_hpc.data.h5_features import write_h5_features
from clicooper_hpc.data.h5_format import FORMAT_NAME, FORMAT_VERSION, SPLITS, h5_row_fault
from clicooper_hpc.data.tables.table_mapping import TableMapping
from clicooper_hpc.data.value_statistics import ValueMoments
from clicooper_hpc.errors import DataError

__all__ = ["DatasetWriter"]

# One random row costs one chunk of decompression, so chunks are small (but hold a row or more).
_CHUNK_BYTES = 64 * 1024
_LABELS_PER_CHUNK = 8192


@dataclass(slots=True)
class _UnfinishedSplit:
    """One split being written."""

    row_shape: tuple[int, ...]
    dtype: np.dtype[Any]
    rows: int = 0
    highest_label: int = 0


class DatasetWriter(Closing):
    """Context manager that writes ``target`` under a temporary name beside it.

    `append_samples`, then `finish` with the class names: only that makes the file appear. Leaving
    the block on an error, or without `finish`, removes the temporary file.

    Parameters
    ----------
    target
        File to write.
    source
        What is being imported, for messages.
    source_kind
        Stored in the root attribute `source_kind`: which importer made the file.
    overwrite
        Replace an existing file (in one step, when the new one is complete).

    Raises
    ------
    DataError
        Naming the target: it exists, its folder does not, it cannot be written, disk full.
    """

    def __init__(
        self, target: Path, *, source: str, source_kind: str, overwrite: bool = False
    ) -> None:
        self._source = source
        self._source_kind = source_kind
        self._splits: dict[str, _UnfinishedSplit] = {}
        self._train_values = ValueMoments()
        self._output = AtomicH5File(target, overwrite=overwrite)

    def __enter__(self) -> Self:
        self._output.create()
        return self

    def close_on_exit(self, error: BaseException | None) -> None:
        """Discard a file that was not finished; `ValueError` if that was no error's doing."""
        # Still open here means that `finish` did not publish the file.
        if self._output.is_open:
            self._output.discard()
            if error is None:
                raise ValueError("DatasetWriter was left without finish()")

    @property
    def highest_label(self) -> int:
        """The highest class number so far in any split."""
        return max((part.highest_label for part in self._splits.values()), default=0)

    def append_samples(self, split: str, x: NDArray[Any], y: NDArray[np.int64]) -> None:
        """Append samples to a split; memory use is that of the arguments.

        Parameters
        ----------
        split
            "train", "validation" or "test".
        x
            uint8 or float32, shape (m, D) or (m, H, W, C).
        y
            int64, shape (m,), values in [0, 65536).

        Raises
        ------
        DataError
            If the rows differ from those before, a label is out of range, or the disk is full.
        """
        if len(x) != len(y) or split not in SPLITS:
            raise ValueError(f"{len(x)} rows with {len(y)} labels for split {split!r}")
        if split not in self._splits:
            fault = h5_row_fault((1, *x.shape[1:]), x.dtype)
            if fault:
                raise DataError(fault, where=f"{self._source}, {split}")
            part = self._splits[split] = _UnfinishedSplit(x.shape[1:], x.dtype)
            # Created with the first rows, because only they tell shape and dtype of the split.
            self._output.apply(lambda file: _create_split(file, split, part))
        part = self._splits[split]
        if (x.shape[1:], x.dtype) != (part.row_shape, part.dtype):
            raise DataError(
                f"rows are {x.dtype} {x.shape[1:]}, those before {part.dtype} {part.row_shape}",
                where=f"{self._source}, {split}, row {part.rows}",
            )
        check_class_labels(y, f"{self._source}, {split}", first_row=part.rows)
        start = part.rows
        self._output.apply(lambda file: _append_samples(file[split], start, x, y))
        # After the write: a row that failed is not counted.
        part.rows += len(x)
        part.highest_label = max(part.highest_label, int(y.max(initial=0)))
        # Of no other split: what is learnt of held-out rows makes their results look better.
        if split == "train":
            self._train_values.add_stored_rows(x)

    def finish(self, class_names: Sequence[str], table: TableMapping | None = None) -> None:
        """Check the whole, write the attributes, and give the file its name.

        ``table``: how the columns of a table became the features, if it was one.

        Raises
        ------
        DataError
            If there is no training or test sample, the class names are unusable or fewer than
            the labels need, splits differ in row shape, or the disk is full.
        """
        names = tuple(class_names)
        # Before anything is published: a file with too few class names would appear complete.
        self._check(names)
        self._output.apply(lambda file: _write_attributes(file, self._source_kind, names))
        statistics = self._train_values.value_statistics()
        if statistics is not None:
            self._output.apply(lambda file: write_h5_features(file, statistics, table))
        self._output.publish()

    def _check(self, class_names: tuple[str, ...]) -> None:
        for split in ("train", "test"):
            if split not in self._splits or not self._splits[split].rows:
                raise DataError(f"there are no {split} samples", where=self._source)
        kinds = {name: (part.row_shape, str(part.dtype)) for name, part in self._splits.items()}
        if len(set(kinds.values())) > 1:
            raise DataError(f"splits differ in row shape or dtype: {kinds}", where=self._source)
        check_class_names(class_names, f"{self._source}, class names")
        if self.highest_label >= len(class_names):
            raise DataError(
                f"label {self.highest_label} has no name, there are {len(class_names)}",
                where=f"{self._source}, class names",
            )


def _create_split(file: h5py.File, split: str, part: _UnfinishedSplit) -> None:
    image = len(part.row_shape) == 3
    x_chunk = max(1, _CHUNK_BYTES // (prod(part.row_shape) * part.dtype.itemsize))
    x_attrs = {
        "units": "8-bit intensity" if part.dtype == np.uint8 else "1",
        "long_name": "images" if image else "feature vectors",
        "layout": "NHWC" if image else "ND",
    }
    y_attrs = {"units": "1", "long_name": "class number, index into class_names"}
    for name, row_shape, dtype, chunk, attrs in (
        ("x", part.row_shape, part.dtype, x_chunk, x_attrs),
        ("y", (), np.dtype(np.int64), _LABELS_PER_CHUNK, y_attrs),
    ):
        dataset = file.create_dataset(
            f"{split}/{name}",
            shape=(0, *row_shape),
            # How many rows come is known only at the end of a stream.
            maxshape=(None, *row_shape),
            chunks=(chunk, *row_shape),
            dtype=dtype,
            compression="gzip",
            compression_opts=1,
            # Bytes of one significance together compress better, which float32 rows need.
            shuffle=True,
            # Damage on disk is found, with its chunk, when the row is read.
            fletcher32=True,
        )
        for key, text in attrs.items():
            dataset.attrs[key] = np.bytes_(text)


def _append_samples(group: h5py.Group, start: int, x: NDArray[Any], y: NDArray[np.int64]) -> None:
    for dataset, values in ((group["x"], x), (group["y"], y)):
        dataset.resize(start + len(values), axis=0)
        dataset[start:] = values


def _write_attributes(file: h5py.File, source_kind: str, class_names: tuple[str, ...]) -> None:
    file.attrs["format"] = np.bytes_(FORMAT_NAME)
    file.attrs["format_version"] = FORMAT_VERSION
    file.attrs["source_kind"] = np.bytes_(source_kind)
    file.attrs["created"] = np.bytes_(datetime.now(UTC).isoformat(timespec="seconds"))
    encoded = [name.encode("utf-8") for name in class_names]
    # Fixed length: h5py and other readers take these strings without the HDF5 heap.
    width = max(len(name) for name in encoded)
    file.attrs.create(
        "class_names",
        np.asarray(encoded, dtype=f"S{width}"),
        dtype=h5py.string_dtype("utf-8", width),
    )
