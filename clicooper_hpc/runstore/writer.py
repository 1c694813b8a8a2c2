"""One rank's shard: an HDF5 file with one writer, readable while it grows and after a kill.

While a run lives the shard is in HDF5's single-writer-multiple-readers mode: whatever was flushed
can be read, even if the writer is killed in the middle of the next write. Closing rewrites it
compactly, so that a finished shard is an ordinary file any program opens.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from clicooper_hpc.errors import EnvironmentUnfitError, RunFolderError
from clicooper_hpc.runstore.buffer import KeptRows, TableWriter
from clicooper_hpc.runstore.h5 import (
    Attribute,
    abandon,
    attributes,
    creating,
    open_live,
    set_attributes,
    write_error,
)
from clicooper_hpc.runstore.rows import (
    Rows,
    columns_of,
    create_table,
    find_tables,
    read_rows,
    table_of,
    write_rows,
)
from clicooper_hpc.runstore.tables import COMPLETE, Table
from clicooper_hpc.runstore.view import read_file

__all__ = ["SHARD_FORMAT", "SHARD_VERSION", "ShardWriter", "compact"]

SHARD_FORMAT = "clicooper-shard"
SHARD_VERSION = 1

_log = logging.getLogger(__name__)


class ShardWriter(TableWriter):
    """Writer of ``rank-NNN.h5``; see `TableWriter` for its use.

    Parameters
    ----------
    path
        The shard; must not exist, unless this is a later life of the run: then it is replaced by
        one that begins with the ``earlier`` rows.
    tables
        Tables of this rank; all are made at once, since a live file cannot get new ones.
    attrs
        Root attributes; ``run_id`` and ``rank`` are what the reader compares with the index.

    Raises
    ------
    RunFolderError
        The shard is there already.
    EnvironmentUnfitError
        The file cannot be made.
    """

    def __init__(
        self,
        path: Path,
        tables: Iterable[Table],
        attrs: Mapping[str, Attribute],
        *,
        earlier: KeptRows | None = None,
        **options: Any,
    ) -> None:
        tables = tuple(tables)
        super().__init__(path, tables, earlier=earlier, **options)
        if earlier is None and path.exists():
            raise RunFolderError(
                "the shard is there already, and a shard is never overwritten",
                where=str(path),
                remedy="Start the run in a new folder.",
            )
        with creating(path) as new:
            set_attributes(new, {"format": SHARD_FORMAT, "format_version": SHARD_VERSION, **attrs})
            for table in tables:
                columns = columns_of(create_table(new, table))
                if self._written[table.name] and earlier is not None:
                    write_rows(columns, 0, _complete(table, earlier.kept[table.name]))
        try:
            self._file = open_live(path)
        except OSError as error:
            raise write_error(path, error) from error
        self._columns = {table.name: columns_of(self._file[table.name]) for table in tables}

    def _store(self, blocks: Mapping[str, Mapping[str, np.ndarray[Any, Any]]]) -> None:
        for name, rows in blocks.items():
            write_rows(self._columns[name], self._written[name], rows)
        self._file.flush()

    def _finish(self) -> None:
        self._file.close()
        try:
            compact(self.path)
        except EnvironmentUnfitError as error:
            # The shard as it stands holds every row; it is only larger than it need be.
            _log.warning("%s", error)

    def _give_up(self) -> None:
        abandon(self._file)


def compact(path: Path) -> None:
    """Rewrite a shard that nobody writes: complete rows only, large chunks, no trace of SWMR.

    Atomic: readers of the old file keep it, and a failure leaves it as it was.

    Raises
    ------
    EnvironmentUnfitError
        No space for the new file.
    RunFolderError
        The shard is missing or damaged.
    """

    def collect(old: Any) -> tuple[dict[str, Attribute], list[tuple[Table, Rows]]]:
        tables = [(table_of(group), read_rows(group)) for _, group in find_tables(old)]
        return attributes(old), tables

    attrs, tables = read_file(path, collect)
    with creating(path) as new:
        set_attributes(new, attrs)
        for table, rows in tables:
            columns = columns_of(create_table(new, table, live=False))
            write_rows(columns, 0, _complete(table, rows))


def _complete(table: Table, rows: Rows) -> Rows:
    return {**rows, COMPLETE.name: np.ones(len(rows[table.axis]), COMPLETE.dtype)}
