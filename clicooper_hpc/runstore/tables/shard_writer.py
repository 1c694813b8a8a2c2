"""`ShardWriter`: one rank's HDF5 file, readable while it grows and after a kill.

While a run goes on the shard is in HDF5's single-writer-multiple-readers mode: whatever was flushed
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
from clicooper_hpc.runstore.hdf5.files import (
    Attribute,
    abandon_hdf5_file,
    create_hdf5_file,
    hdf5_write_error,
    open_swmr_file,
    set_hdf5_attributes,
)
from clicooper_hpc.runstore.hdf5.reader import read_hdf5_file
from clicooper_hpc.runstore.hdf5.typed import read_hdf5_attributes
from clicooper_hpc.runstore.tables.schema import SHARD_FORMAT, SHARD_VERSION, Table
from clicooper_hpc.runstore.tables.storage import (
    Rows,
    copy_stored_table,
    create_stored_table,
    find_stored_tables,
    read_stored_rows,
    stored_columns,
    stored_table,
    with_complete_marker,
    write_stored_rows,
)
from clicooper_hpc.runstore.tables.writer import KeptRows, TableWriter

__all__ = ["SHARD_ATTRIBUTES", "ShardWriter", "compact_shard"]

#: Root attributes of every shard.
SHARD_ATTRIBUTES: Mapping[str, Attribute] = {
    "Conventions": f"{SHARD_FORMAT}-{SHARD_VERSION}",
    "format": SHARD_FORMAT,
    "format_version": SHARD_VERSION,
}

_log = logging.getLogger(__name__)


class ShardWriter(TableWriter):
    """Writer of ``rank-NNN.h5``; see `TableWriter` for its use.

    Parameters
    ----------
    path
        The shard; must not exist, unless this is a restart of the run: then it is replaced by
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
        # Rank 0 made the folder for this run alone, so a shard here is another run's.
        if earlier is None and path.exists():
            raise RunFolderError(
                "the shard is there already, and a shard is never overwritten",
                where=str(path),
                remedy="Start the run in a new folder.",
            )
        with create_hdf5_file(path) as new:
            set_hdf5_attributes(new, {**SHARD_ATTRIBUTES, **attrs})
            for table in tables:
                columns = stored_columns(create_stored_table(new, table))
                if self._written[table.name] and earlier is not None:
                    write_stored_rows(
                        columns, 0, with_complete_marker(table, earlier.kept[table.name])
                    )
        # A file in SWMR mode gets no new objects, so it is made whole before it is opened so.
        try:
            self._file = open_swmr_file(path)
        except OSError as error:
            raise hdf5_write_error(path, error) from error
        # Held open until the end, as `abandon_hdf5_file` asks.
        self._columns = {table.name: stored_columns(self._file[table.name]) for table in tables}

    def _store(self, blocks: Mapping[str, Mapping[str, np.ndarray[Any, Any]]]) -> None:
        for name, rows in blocks.items():
            write_stored_rows(self._columns[name], self._written[name], rows)
        # To the system, not to the disk: that is `sync`, before a proof or checkpoint relies on it.
        self._file.flush()

    def _finish(self) -> None:
        self._file.close()
        try:
            compact_shard(self.path)
        except EnvironmentUnfitError as error:
            # The shard as it stands holds every row; it is only larger than it need be.
            _log.warning("%s", error)

    def _give_up(self) -> None:
        abandon_hdf5_file(self._file)


def compact_shard(path: Path) -> None:
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
        tables = [
            (stored_table(group), read_stored_rows(group)) for _, group in find_stored_tables(old)
        ]
        return read_hdf5_attributes(old), tables

    attrs, tables = read_hdf5_file(path, collect)
    with create_hdf5_file(path) as new:
        set_hdf5_attributes(new, attrs)
        for table, rows in tables:
            copy_stored_table(new, table, rows)
