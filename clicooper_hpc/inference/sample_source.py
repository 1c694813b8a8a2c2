"""Where new samples come from: a data set of the native format, an importable one, image files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from clicooper_hpc.data.class_labels import check_class_names
from clicooper_hpc.data.dataset import open_dataset
from clicooper_hpc.data.importers.image_files import (
    list_image_files,
    read_image_files,
)
from clicooper_hpc.data.importers.import_dataset import import_samples
from clicooper_hpc.data.importers.npz import UNSPLIT, read_npz_split
from clicooper_hpc.data.tables.arrow_table import TABLE_KINDS
from clicooper_hpc.data.tables.read_table import open_mapped_table, read_mapped_table
from clicooper_hpc.data.tables.table_mapping import TableMapping
from clicooper_hpc.errors import DataError
from clicooper_hpc.inference.predictor import Predictor
from clicooper_hpc.inference.source_check import check_source_shape, checked_source
from clicooper_hpc.owner.classifier import Classifier

__all__ = ["SampleSource", "open_sample_source"]

_BLOCK = 1024
# Samples are read once, in order: what HDF5 keeps of the chunks behind them is of no use.
_CHUNK_CACHE_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class SampleSource:
    """New samples, nothing of which has been read yet.

    Attributes
    ----------
    feed
        Streams all of them into a predictor; returns the names of the labels' classes, None where
        there are no labels or labels are the model's class numbers.
    rows
        Their number, where it is known beforehand.
    files
        Name of the file of each row, where rows are files.
    unused
        Columns of a table that the model takes nothing of.
    """

    feed: Callable[[Predictor], Sequence[str] | None]
    rows: int | None = None
    files: Sequence[str] | None = field(default=None, repr=False)
    unused: tuple[str, ...] = ()


def open_sample_source(
    source: str | Path,
    model: Classifier,
    *,
    kind: str | None,
    split: str,
    size: int | None,
    table: TableMapping | None = None,
) -> SampleSource:
    """Return the samples at ``source``.

    Parameters
    ----------
    source
        Path; or the text "digits", as typed, for the embedded digits. "./digits" is a path.
    kind
        One of `SOURCE_KINDS`; None: by the name, or by what is in the folder.
    split
        Which samples, where they are split.
    size
        Images are cut and scaled to squares of so many pixels a side.
    table
        How the table that the model was trained on became features; None where it was no table.

    Raises
    ------
    UsageError
        The kind is unknown or cannot be told, ``size`` has no meaning, or "digits" may be either.
    DataError
        There is nothing at ``source``, or not what ``kind`` says.
    """
    kind, path = checked_source(source, kind=kind, size=size), Path(source)
    check_source_shape(source, kind, split, model.input_shape)
    if kind == "folder":
        return _image_source(path, model, split, size)
    if kind == "hdf5":
        return _hdf5_source(source, split, table)
    if kind in TABLE_KINDS:
        return _table_source(kind, path, model, split, table)
    if kind == "npz":
        return SampleSource(partial(read_npz_split, path, split))
    return SampleSource(partial(_feed_import, kind, path, split))


def _table_source(
    kind: str, path: Path, model: Classifier, split: str, mapping: TableMapping | None
) -> SampleSource:
    if mapping is None:
        raise DataError(
            "is a table, and the run was trained on none",
            where=str(path),
            remedy="Give samples of the kind that the run was trained on",
        )
    if split != UNSPLIT:
        raise DataError(f"has no split {split!r}, no splits at all", where=str(path))
    table, unused = open_mapped_table(kind, path, mapping)

    def feed(predictor: Predictor) -> Sequence[str] | None:
        return read_mapped_table(table, mapping, split, predictor, model.class_names)

    return SampleSource(feed, unused=unused)


def _hdf5_source(path: str | Path, split: str, mapping: TableMapping | None) -> SampleSource:
    with open_dataset(path, chunk_cache_bytes=_CHUNK_CACHE_BYTES) as data:
        rows = len(data.split(split))
        # Columns in another order, or categories of another table, would be answered all the same.
        own = None if data.table is None else data.table.feature_names
        if own is not None and mapping is not None and own != mapping.feature_names:
            raise DataError(
                "has other features, or in another order, than the table of the run",
                where=str(path),
                remedy="Give the table itself (.csv, .parquet, .arrow)",
            )

    def feed(predictor: Predictor) -> Sequence[str]:
        with open_dataset(path, chunk_cache_bytes=_CHUNK_CACHE_BYTES) as data:
            samples = data.split(split)
            for start in range(0, len(samples), _BLOCK):
                ids = np.arange(start, min(start + _BLOCK, len(samples)))
                predictor.append_rows(samples.read(ids), samples.labels(ids))
            return data.class_names

    return SampleSource(feed, rows=rows)


def _image_source(path: Path, model: Classifier, split: str, size: int | None) -> SampleSource:
    if split != UNSPLIT:
        raise DataError(f"has no split {split!r}, no splits at all", where=str(path))
    files = list_image_files(path)
    if not files:
        raise DataError("holds no image", where=str(path))
    channels, height, width = model.input_shape

    def feed(predictor: Predictor) -> None:
        read_image_files(
            files,
            predictor,
            split=split,
            shape=(height, width, channels),
            size=size,
            class_names=model.class_names,
        )

    root = path if path.is_dir() else path.parent
    names = [file.relative_to(root).as_posix() for file in files]
    return SampleSource(feed, rows=len(files), files=names)


def _feed_import(kind: str, path: Path, split: str, predictor: Predictor) -> Sequence[str] | None:
    names = import_samples(kind, path, predictor)
    # Fewer than a batch are taken and not answered yet.
    if not predictor.taken:
        raise DataError(f"has no split {split!r}", where=str(path), remedy="Give --split test")
    # Names of folders and in archives, as `data import` checks them.
    check_class_names(names, f"{path}, class names")
    # Classes without names of their own are called by their numbers.
    return None if kind == "idx" else names
