"""`TableSource`: where the tables of one rank are, and how they are read from there."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clicooper_hpc.errors import RunFolderError
from clicooper_hpc.runstore.hdf5.reader import read_hdf5_file, unopened_file
from clicooper_hpc.runstore.hdf5.typed import (
    hdf5_group,
    read_hdf5_attribute,
    read_hdf5_text_attribute,
)
from clicooper_hpc.runstore.tables.schema import Table
from clicooper_hpc.runstore.tables.storage import (
    Rows,
    find_stored_tables,
    read_stored_rows,
    stored_table,
)

__all__ = ["TableSource"]


@dataclass(frozen=True, slots=True)
class TableSource:
    """Where the tables of one rank are.

    Attributes
    ----------
    path
        File of the rank, or of all ranks.
    below
        Group in a file of all ranks; "" for the file of the rank.
    is_there
        False if the file of all ranks is known to lack the group.
    """

    path: Path
    below: str = ""
    is_there: bool = True

    def read_tables(
        self, rank: int, run_id: str, wanted: Collection[str] | None
    ) -> dict[str, tuple[Table, Rows] | None]:
        """Return the tables by name: as `Table` and rows if ``wanted`` (None: all), else None.

        Raises
        ------
        RunFolderError
            The file is missing, damaged, of another rank or of another run than ``run_id``.
        """

        def read(file: Any) -> dict[str, tuple[Table, Rows] | None]:
            # A shard of another run under this name would be shown as this run's.
            if not self.below and read_hdf5_text_attribute(file, "run_id") != run_id:
                raise self._wrong_shard("the shard belongs to another run")
            # And one of another rank as this rank's.
            if not self.below and read_hdf5_attribute(file, "rank") != rank:
                raise self._wrong_shard("the shard is that of another rank")
            place = hdf5_group(file, self.below) if self.below else file
            return {
                name: (stored_table(group), read_stored_rows(group))
                if wanted is None or name in wanted
                else None
                for name, group in find_stored_tables(place)
            }

        # The rest of a file of all ranks was looked at when its run was opened.
        try:
            return read_hdf5_file(self.path, read, below=self.below)
        except PermissionError as error:
            # One rank's file, not the run: the others are read all the same.
            raise unopened_file(self.path, error) from None

    def _wrong_shard(self, what: str) -> RunFolderError:
        return RunFolderError(
            what,
            where=str(self.path),
            remedy="Bring back the shard this run wrote under this name.",
        )
