"""`new_output`: a file or folder of the user's that appears whole, under a name that was free."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from clicooper_hpc.errors import EnvironmentUnfitError, UsageError
from clicooper_hpc.runstore.atomic_files import fsync_folder, fsync_path

__all__ = ["check_new_output", "new_output"]


@contextmanager
def new_output(target: Path, what: str) -> Iterator[Path]:
    """Give a path to make ``what`` at, a file or a folder; at the end it becomes ``target``.

    If anything fails, nothing is left.

    Raises
    ------
    UsageError
        ``target`` exists, or the folder it would lie in does not.
    EnvironmentUnfitError
        It cannot be written.
    """
    check_new_output(target)
    try:
        with tempfile.TemporaryDirectory(
            # Beside the target: a rename is one step only within one file system.
            prefix=f".{target.name}.",
            suffix=".part",
            dir=target.parent,
        ) as aside:
            made = Path(aside) / target.name
            yield made
            for path in sorted(made.rglob("*")) if made.is_dir() else [made]:
                fsync_path(path)
            # Another program may have been quicker; a rename would replace what it wrote.
            check_new_output(target)
            made.rename(target)
        fsync_folder(target.parent)
    except OSError as error:
        raise EnvironmentUnfitError(
            f"{what} cannot be written ({error.strerror or error})",
            where=str(target),
            remedy="Free space there, or write it elsewhere.",
        ) from error


def check_new_output(target: Path) -> None:
    """Refuse a ``target`` that exists, or whose folder does not; errors as `new_output`.

    For a command that has much to do before it writes.
    """
    if os.path.lexists(target):
        raise UsageError(
            "exists already, and nothing is overwritten",
            where=str(target),
            remedy="Give another name.",
        )
    if not target.parent.is_dir():
        raise UsageError(
            "there is no such folder",
            where=str(target.parent),
            remedy="Make it, or write somewhere else.",
        )
