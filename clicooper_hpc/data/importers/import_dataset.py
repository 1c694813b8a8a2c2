"""The one entry to all importers: published archives and folders to a native HDF5 file."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clicooper_hpc.data.dataset import open_dataset
from clicooper_hpc.data.dataset_writer import DatasetWriter
from clicooper_hpc.data.importers.cifar import CIFAR10, CIFAR100, import_cifar
from clicooper_hpc.data.importers.idx import import_idx
from clicooper_hpc.data.importers.image_folder import import_image_folder
from clicooper_hpc.data.importers.npz import import_npz
from clicooper_hpc.data.output_place import refuse_output_in_source
from clicooper_hpc.data.sample_sink import SampleSink
from clicooper_hpc.data.tables.arrow_table import TABLE_KINDS
from clicooper_hpc.data.tables.import_table import import_table_file
from clicooper_hpc.data.tables.table_options import TableOptions
from clicooper_hpc.errors import DataError, UsageError

__all__ = ["KINDS", "ImportSummary", "import_dataset", "import_samples"]

KINDS = ("cifar10", "cifar100", "idx", "folder", "npz", *TABLE_KINDS)


@dataclass(frozen=True, slots=True)
class ImportSummary:
    """What an import wrote.

    Attributes
    ----------
    rows
        Samples by split.
    row_shape
        (D,) or (H, W, C), as stored.
    file_bytes
        Size of the file on disk.
    remarks
        What was done with the columns and rows of a table, a line each.
    """

    kind: str
    target: Path
    rows: dict[str, int]
    row_shape: tuple[int, ...]
    dtype: str
    class_names: tuple[str, ...]
    file_bytes: int
    remarks: tuple[str, ...] = ()


def import_dataset(
    kind: str,
    source: Path,
    target: Path,
    *,
    overwrite: bool = False,
    size: int | None = None,
    table: TableOptions | None = None,
    on_rows: Callable[[int], None] = lambda _: None,
) -> ImportSummary:
    """Convert ``source`` to the native format; ``target`` appears only when it is complete.

    Parameters
    ----------
    kind
        One of `KINDS`.
    source
        Archive or folder, see `docs/data.md`.
    target
        HDF5 file to write.
    overwrite
        Replace an existing file.
    size
        Side of the square images, for kind "folder" only.
    table
        What the columns are, for kinds of tables only, which need it.
    on_rows
        Called with the number of samples after each block that was written.

    Raises
    ------
    UsageError
        Unknown kind, or a size that has no meaning.
    DataError
        Naming file and place of what is wrong with the source, or why the target cannot be
        written. Nothing is left behind, and an existing target stays as it was.
    """
    if kind not in KINDS:
        raise UsageError(
            f"there is no importer {kind!r}", where="KIND", remedy=f"Use one of {', '.join(KINDS)}"
        )
    if size is not None and (kind != "folder" or size < 1):
        raise UsageError(
            f"size {size} does not apply to {kind}" if kind != "folder" else f"{size} is too small",
            where="--size",
        )
    if table is None and kind in TABLE_KINDS:
        raise UsageError(
            "a table needs the name of its column of classes",
            where=f"data import {kind}",
            remedy="Give --label COLUMN",
        )
    if table is not None and kind not in TABLE_KINDS:
        raise UsageError(f"options of tables do not apply to {kind}", where=f"data import {kind}")
    read = (
        [source, *(path for path in (table.test, table.validation) if path)] if table else [source]
    )
    for path in read:
        if not os.path.exists(path):
            raise DataError("no such file or folder", where=str(path))
        refuse_output_in_source(path, target)
    remarks: tuple[str, ...] = ()
    with DatasetWriter(target, source=str(source), source_kind=kind, overwrite=overwrite) as writer:
        sink = _CountedSink(writer, on_rows)
        if table is None:
            writer.finish(import_samples(kind, source, sink, size=size))
        else:
            names, mapping, remarks = import_table_file(kind, source, sink, table)
            writer.finish(names, mapping)
    # Opened as a run opens it: what the importer says it wrote is what a run will find.
    with open_dataset(target) as data:
        train = data.split("train")
        return ImportSummary(
            kind=kind,
            target=target,
            rows={name: len(split) for name, split in data.splits.items()},
            row_shape=train.row_shape,
            dtype=str(train.dtype),
            class_names=data.class_names,
            file_bytes=target.stat().st_size,
            remarks=remarks,
        )


@dataclass(frozen=True, slots=True)
class _CountedSink:
    """A `SampleSink` that hands on to ``sink`` and tells ``on_rows`` how many."""

    sink: SampleSink
    on_rows: Callable[[int], None]

    @property
    def highest_label(self) -> int:
        return self.sink.highest_label

    def append_samples(self, split: str, x: NDArray[Any], y: NDArray[np.int64]) -> None:
        self.sink.append_samples(split, x, y)
        self.on_rows(len(x))


def import_samples(
    kind: str, source: Path, sink: SampleSink, *, size: int | None = None
) -> tuple[str, ...]:
    """Stream all samples of ``source`` into ``sink``; return the class names.

    ``kind`` is one of `KINDS` that is no table; ``size`` and errors as in `import_dataset`.
    """
    if kind == "cifar10":
        return import_cifar(CIFAR10, source, sink)
    if kind == "cifar100":
        return import_cifar(CIFAR100, source, sink)
    if kind == "idx":
        return import_idx(source, sink)
    if kind == "folder":
        return import_image_folder(source, sink, size=size)
    return import_npz(source, sink)
