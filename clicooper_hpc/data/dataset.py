"""Opening a data set: an HDF5 file of the native format, or the embedded digits."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import h5py

from clicooper_hpc.closing import Closing
from clicooper_hpc.data.class_labels import check_class_labels
from clicooper_hpc.data.digits import load_digits_splits
from clicooper_hpc.data.h5_features import read_h5_mapping, read_h5_statistics
from clicooper_hpc.data.h5_format import (
    SPLITS,
    check_h5_header,
    check_h5_split,
    h5_format_errors,
    refuse_h5_link,
)
from clicooper_hpc.data.row_store import H5RowStore, iterate_store_rows
from clicooper_hpc.data.split import Split
from clicooper_hpc.data.tables.table_mapping import TableMapping
from clicooper_hpc.data.value_statistics import ValueStatistics
from clicooper_hpc.errors import DataError

__all__ = ["DataSet", "Split", "open_dataset"]

# Shuffled reads touch every chunk again and again: a chunk that stays is not decompressed twice.
_CHUNK_CACHE_BYTES = 256 * 1024 * 1024
_CHUNK_CACHE_SLOTS = 20_011


class DataSet(Closing):
    """Splits and class names; a context manager that closes the file behind them.

    Parameters
    ----------
    name
        File name without its ending, or "digits".
    source
        Path as given, for messages.

    Attributes
    ----------
    table
        How the columns of a table became the features; None where it was no table.
    statistics
        Of the training rows, if the file keeps them.
    """

    def __init__(
        self,
        name: str,
        source: str,
        class_names: tuple[str, ...],
        splits: Mapping[str, Split],
        file: h5py.File | None = None,
    ) -> None:
        self.table: TableMapping | None = None
        self.statistics: ValueStatistics | None = None
        self.name = name
        self.source = source
        self.class_names = class_names
        # Read-only: which splits there are was checked when the file was opened.
        self.splits: Mapping[str, Split] = MappingProxyType(dict(splits))
        self._file = file

    @property
    def num_classes(self) -> int:
        """K, the number of classes."""
        return len(self.class_names)

    def split(self, name: str) -> Split:
        """Return the split ``name``; DataError naming the file and its splits if missing."""
        if name not in self.splits:
            raise DataError(
                f"has no split {name!r}, only {', '.join(self.splits)}", where=self.source
            )
        return self.splits[name]

    def close(self) -> None:
        """Close the file. Splits cannot be read afterwards; closing twice is fine."""
        if self._file is not None:
            self._file.close()

    def close_on_exit(self, error: BaseException | None) -> None:
        """Close the file."""
        self.close()


def open_dataset(path: str | Path, *, chunk_cache_bytes: int = _CHUNK_CACHE_BYTES) -> DataSet:
    """Open a data set and check all of it that can be checked without reading every row.

    Parameters
    ----------
    path
        HDF5 file, or the text "digits" for the embedded set; a `Path` is always a file.
    chunk_cache_bytes
        What HDF5 may keep of the rows and of the labels, decoded, for whoever reads them in any
        order; a single pass needs next to nothing.

    Raises
    ------
    DataError
        Naming file and place: no such file, not HDF5, no split, wrong shape or dtype, rows and
        labels of different number, a label outside [0, K), fewer than two classes.
    """
    # A path of that name has lost its dot; in messages too it is not to pass for the word.
    source = os.path.join(os.curdir, path) if path == Path("digits") else str(path)
    # A word, not a path: the embedded set needs no file, so that a first run downloads nothing.
    if path == "digits":
        names, splits = load_digits_splits()
        return DataSet("digits", "digits", names, splits)
    # h5py would say "unable to open file" for a missing file, a folder and a pipe alike.
    if not os.path.isfile(source):
        raise DataError(
            "is not a file" if os.path.exists(source) else "no such file",
            where=source,
            remedy="Give an HDF5 file (clicooper data import writes one) or 'digits'",
        )
    with h5_format_errors(source, "cannot be opened"):
        # No lock: some cluster file systems have none to give, and imported files appear complete.
        file = h5py.File(
            source,
            "r",
            locking=False,
            rdcc_nbytes=chunk_cache_bytes,
            rdcc_nslots=_CHUNK_CACHE_SLOTS,
        )
    try:
        with h5_format_errors(source):
            names = check_h5_header(file, source)
            splits = {
                name: _open_split(file, name, source, len(names)) for name in SPLITS if name in file
            }
        if not splits:
            raise DataError(f"has none of the splits {', '.join(SPLITS)}", where=source)
        # One front and one network take the rows of all splits.
        _check_same_rows(splits, source)
        data = DataSet(Path(source).stem, source, names, splits, file)
        features = next(iter(splits.values())).row_shape[-1]
        with h5_format_errors(source):
            data.statistics = read_h5_statistics(file, features, source)
            data.table = read_h5_mapping(file, features, source)
    # Also on Ctrl-C: the caller has no object yet whose `close` it could call.
    except BaseException:
        file.close()
        raise
    return data


def _open_split(file: h5py.File, name: str, source: str, num_classes: int) -> Split:
    where = f"{source}:/{name}"
    refuse_h5_link(file, name, source)
    x, y = check_h5_split(file[name], where)
    labels = H5RowStore(y, f"{where}/y")
    # All labels are read when the file is opened (8 bytes a sample), so that a wrong one is found
    # before anything is released, not in the middle of an epoch.
    for start, values in iterate_store_rows(labels, 0, labels.shape[0]):
        check_class_labels(values, labels.where, first_row=start, num_classes=num_classes)
    return Split(name, H5RowStore(x, f"{where}/x"), labels)


def _check_same_rows(splits: Mapping[str, Split], source: str) -> None:
    kinds = {name: (split.row_shape, str(split.dtype)) for name, split in splits.items()}
    if len(set(kinds.values())) > 1:
        raise DataError(f"splits differ in row shape or dtype: {kinds}", where=source)
