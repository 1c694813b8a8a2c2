"""`SingleWriter`: layout "single", where all ranks write one file through parallel HDF5.

Rank 0 makes the file alone, with the tables of every rank at their final size and their space
allocated (`create_index`); then all ranks open it together. From there on nothing of the file's
structure changes and each rank writes its own tables independently: an append is never collective,
so a slow rank holds up nobody and a killed one damages nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from clicooper_hpc.errors import EnvironmentUnfitError
from clicooper_hpc.runstore.hdf5.files import SINGLE_LIBVER, hdf5_write_error
from clicooper_hpc.runstore.hdf5.parallel import require_parallel_hdf5
from clicooper_hpc.runstore.tables.schema import COMPLETE, Table
from clicooper_hpc.runstore.tables.storage import stored_columns, write_stored_rows
from clicooper_hpc.runstore.tables.writer import TableWriter

__all__ = ["SingleWriter"]


class SingleWriter(TableWriter):
    """Writer of one rank's tables in the shared ``run.h5``. Opening and closing are collective.

    Parameters
    ----------
    path
        The file that rank 0 made with `create_index`; it must be there on every rank.
    tables
        Tables of this rank, as given to `create_index`.
    rank
        This rank.
    communicator
        MPI communicator of all ranks of the run, handed through to h5py.
    """

    def __init__(
        self, path: Path, tables: Iterable[Table], *, rank: int, communicator: Any, **options: Any
    ) -> None:
        require_parallel_hdf5()
        super().__init__(path, tables, **options)
        try:
            self._file = h5py.File(
                path, "r+", driver="mpio", comm=communicator, libver=SINGLE_LIBVER
            )
        except OSError as error:
            raise hdf5_write_error(path, error) from error
        mine = self._file[f"ranks/{rank:03d}"]
        self._columns = {name: stored_columns(mine[name]) for name in self._buffers}
        for name, first in self._written.items():
            # Rows behind the checkpoint a restart began from are void. A new run has none.
            marker = self._columns[name][COMPLETE.name]
            # Looked at first: a new file has only zeros.
            if marker[first:].any():
                marker[first:] = 0

    def append(self, table: str, values: Mapping[str, Any]) -> None:
        """Add one row, as in `TableWriter.append`; `ValueError` if the table has no row left."""
        # The file cannot grow: changing its structure would be collective.
        room = len(next(iter(self._columns[table].values())))
        if self._written[table] + len(self._buffers[table]) >= room:
            raise ValueError(f"table {table} was made for {room} rows")
        super().append(table, values)

    def close_on_exit(self, error: BaseException | None) -> None:
        """Close; after an exception only flush, for the other ranks may never come to close."""
        if error is None:
            self.close()
        elif not isinstance(error, EnvironmentUnfitError):
            self.flush()

    def _store(self, blocks: Mapping[str, Mapping[str, np.ndarray[Any, Any]]]) -> None:
        # No flush: contiguous data goes straight to the file, and H5Fflush would be collective.
        for name, rows in blocks.items():
            write_stored_rows(self._columns[name], self._written[name], rows)

    def _finish(self) -> None:
        self._file.close()

    def _give_up(self) -> None:
        """Nothing: closing is collective, and the other ranks know nothing of this failure."""
