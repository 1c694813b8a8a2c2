"""`open_whole_run`: for whatever says something of a run, not of the file of one rank."""

from __future__ import annotations

from pathlib import Path

from clicooper_hpc.errors import RunFolderError
from clicooper_hpc.runstore.reader import Run, open_run

__all__ = ["Run", "open_whole_run"]


def open_whole_run(path: Path) -> Run:
    """Open a run as `open_run` does.

    Raises
    ------
    RunFolderError
        As of `open_run`; and ``path`` is the file of one rank, away from its run.
    """
    run = open_run(path)
    if not run.hosts:
        raise RunFolderError(
            "is the file of one rank, and no run",
            where=str(path),
            remedy="Name the folder of the run.",
        )
    return run
