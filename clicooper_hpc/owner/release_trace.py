"""What in a run folder shows that samples have left the owner, whatever became of its ledger."""

from __future__ import annotations

import os

from clicooper_hpc.runstore.reader import open_run
from clicooper_hpc.runstore.run_folder import RunFolder
from clicooper_hpc.runstore.tables.schema import RELEASES, STEPS

__all__ = ["find_release_trace"]

#: Folders that a run fills only with what was trained on released rows.
_FILLED = ("checkpoints", "delivery")


def find_release_trace(folder: RunFolder) -> str | None:
    """Return the first such thing in words, or None: nothing is known to have left.

    Raises
    ------
    RunFolderError
        A file of the run that would show it cannot be read.
    """
    for name in _FILLED:
        place = folder.path / name
        if place.is_dir() and any(place.iterdir()):
            return f"{name}/ is not empty"
    # Made before the first row leaves, so that it is there shows nothing; its rows do.
    if not os.path.lexists(folder.index):
        return None
    run = open_run(folder.path)
    if run.status == "complete":
        return f"{folder.index.name} says that the run is complete"
    for rank in run.ranks:
        # The index is there before the files of all ranks are.
        if rank in run.missing_ranks:
            continue
        for table, rows in run.stored_rows(rank).items():
            if table.name in (RELEASES.name, STEPS.name) and len(rows[table.axis]):
                return f"table {table.name} of rank {rank} has rows"
    return None
