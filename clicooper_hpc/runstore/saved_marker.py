"""The file SAVED in a run folder: every rank has saved after the same step, start the run again.

Launchers hide the exit code of one rank behind that of another, so scripts ask the folder instead.
The file is there from the moment all ranks have saved until the next start, and only then.
"""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

from clicooper_hpc.errors import EnvironmentUnfitError
from clicooper_hpc.runstore.atomic_files import replace_atomically
from clicooper_hpc.runstore.checkpoints import checkpoint_index_path
from clicooper_hpc.runstore.run_folder import RunFolder

__all__ = ["SAVED_FILE", "mark_saved", "read_saved_step", "unmark_saved"]

SAVED_FILE = "SAVED"
#: A run id and a number fit; more is not read.
_LIMIT = 256


def mark_saved(folder: RunFolder, run_id: str, step: int) -> None:
    """Say that every rank of the run has saved after ``step`` steps; for one rank, once it knows.

    Raises
    ------
    EnvironmentUnfitError
        It cannot be written; the checkpoint is whole all the same.
    """
    path = folder.path / SAVED_FILE
    try:
        with replace_atomically(path) as aside:
            aside.write_text(f"{run_id} {step}\n", encoding="ascii")
    except OSError as error:
        raise _unfit(path, f"cannot be written ({error.strerror})") from error


def unmark_saved(folder: RunFolder) -> None:
    """Take back what an earlier start has said.

    Raises
    ------
    EnvironmentUnfitError
        It cannot be removed.
    """
    path = folder.path / SAVED_FILE
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise _unfit(path, f"cannot be removed ({error.strerror})") from error


def read_saved_step(folder: RunFolder, run_id: str) -> int | None:
    """Return after how many steps all ranks of the last start have saved; None if they have not.

    None as well if the file is not one of this run, or the checkpoint that it speaks of has no
    index.
    """
    words = _read_start(folder.path / SAVED_FILE).split()
    if len(words) != 2 or words[0] != run_id.encode() or not words[1].isdigit():
        return None
    step = int(words[1])
    index = checkpoint_index_path(folder.path, step)
    with contextlib.suppress(OSError):
        # Of a stranger's folder nothing is opened here that is no plain file.
        if stat.S_ISREG(index.lstat().st_mode):
            return step
    return None


def _read_start(path: Path) -> bytes:
    """Return the first bytes of a plain file, nothing of anything else."""
    try:
        # A link is not followed, and a pipe does not wait for its writer.
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return b""
    try:
        return os.read(handle, _LIMIT) if stat.S_ISREG(os.fstat(handle).st_mode) else b""
    finally:
        os.close(handle)


def _unfit(path: Path, what: str) -> EnvironmentUnfitError:
    return EnvironmentUnfitError(
        what,
        where=str(path),
        remedy="Make the run folder writable and free space on it, then `clicooper resume`.",
    )
