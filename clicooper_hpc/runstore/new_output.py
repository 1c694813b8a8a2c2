"""A new file or folder that somebody asked for: it appears whole under its name, or not at all.

One rule for whatever stands under that name already: it stays. It is replaced only where the user
says so (``--overwrite``), or where its first bytes say that the very same command wrote it
(`refuse_foreign_output`).
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from clicooper_hpc.errors import EnvironmentUnfitError, RunFolderError, UsageError
from clicooper_hpc.runstore.atomic_files import fsync_folder, fsync_path
from clicooper_hpc.runstore.regular_files import open_regular_file
from clicooper_hpc.runstore.run_folder import RunFolder

__all__ = [
    "check_new_output",
    "check_output_place",
    "new_output",
    "refuse_foreign_output",
    "refuse_run_folder",
]

#: A mark stands within so many bytes from the beginning.
_MARK_BYTES = 1024


@contextmanager
def new_output(target: Path, what: str, *, folder: bool) -> Iterator[Path]:
    """Give a path to write to, which becomes ``target`` at the end of a block that raises nothing.

    Parameters
    ----------
    what
        What is written, for errors, such as "the model".
    folder
        The path is a folder, made already; else a file, to be made by the block.

    Raises
    ------
    UsageError
        ``target`` exists already, no folder for it does, or it would lie in a run folder.
    EnvironmentUnfitError
        It cannot be written. Nothing is left then.
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
            if folder:
                made.mkdir()
            yield made
            for path in [*made.rglob("*"), made]:
                (fsync_folder if path.is_dir() else fsync_path)(path)
            # Another one may have been quicker; a rename would replace what it wrote.
            _refuse_existing(target)
            made.rename(target)
        fsync_folder(target.parent)
    except OSError as error:
        raise EnvironmentUnfitError(
            f"{what} cannot be written ({error.strerror or error})",
            where=str(target),
            remedy="Free space there, or write it elsewhere.",
        ) from error


def check_new_output(target: Path) -> None:
    """Refuse a ``target`` that exists, whose folder does not, or that lies in a run folder.

    For a command that has much to do before it writes; errors as `new_output`.
    """
    _refuse_existing(target)
    check_output_place(target)


def check_output_place(target: Path) -> None:
    """Refuse a ``target`` whose folder does not exist, or is or lies in that of a run.

    Raises
    ------
    UsageError
        Naming the folder.
    """
    if not target.parent.is_dir():
        raise UsageError(
            "there is no such folder",
            where=str(target.parent),
            remedy="Make it, or write somewhere else.",
        )
    refuse_run_folder(target)


def refuse_foreign_output(target: Path, mark: bytes, what: str) -> None:
    """Refuse a file to write anew that the same command did not write.

    Parameters
    ----------
    mark
        Stands within the first 1024 bytes of every file of this kind.
    what
        What this kind of file is, for the error, such as "page of clicooper report".

    Raises
    ------
    UsageError
        Something else than a readable file with ``mark`` is there. A link is not followed.
    """
    if not os.path.lexists(target):
        return
    try:
        descriptor = open_regular_file(target)
        try:
            is_ours = mark in os.read(descriptor, _MARK_BYTES)
        finally:
            os.close(descriptor)
    except (OSError, RunFolderError):
        is_ours = False
    if not is_ours:
        raise UsageError(
            f"is there and is no {what}, so it is not replaced",
            where=str(target),
            remedy="Give another name, or move it away.",
        )


def refuse_run_folder(path: Path) -> None:
    """Refuse an output that would lie in a run folder, whatever links lead there.

    A name there may be a file of the run, which nothing brings back; another one fails `verify`.
    """
    folder = Path(os.path.realpath(path.parent))
    for above in (folder, *folder.parents):
        if os.path.lexists(RunFolder(above).index):
            raise UsageError(
                f"lies in a run folder ({above})", where=str(path), remedy="Write outside of it."
            )


def _refuse_existing(target: Path) -> None:
    if os.path.lexists(target):
        raise UsageError(
            "exists already, and nothing is overwritten",
            where=str(target),
            remedy="Give another name.",
        )
