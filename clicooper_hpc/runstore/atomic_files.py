"""Atomic writes: a file is written aside, fsynced and renamed, and so appears whole or not."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["fsync_folder", "fsync_path", "replace_atomically", "write_private_atomically"]


def fsync_path(path: Path) -> None:
    """Force the content of ``path`` to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def fsync_folder(path: Path) -> None:
    """Force the names in the folder ``path`` to the disk, where the file system can."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    except OSError:
        # Some network file systems refuse to fsync a folder; the rename itself is still atomic.
        pass
    finally:
        os.close(handle)


@contextmanager
def replace_atomically(path: Path, *, foreign_folder: bool = False) -> Iterator[Path]:
    """Give a name beside ``path`` to write to; on success it becomes ``path``, else it vanishes.

    A reader sees the old file or the new one, never a part. `OSError` passes through.

    Parameters
    ----------
    foreign_folder
        The folder is no run's: somebody's own ``NAME.part`` may be in it, so the name is random.
    """
    aside = path.with_name(f"{path.name}.part")
    if foreign_folder:
        aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    # Left by a process that was killed while it wrote.
    aside.unlink(missing_ok=True)
    try:
        yield aside
        # Before the rename: else a lost node may keep the new name with no content behind it.
        fsync_path(aside)
        aside.replace(path)
    except BaseException:  # an interrupt too must leave no part behind
        aside.unlink(missing_ok=True)
        raise
    # The rename itself is in the folder, which the file's fsync does not cover.
    fsync_folder(path.parent)


def write_private_atomically(path: Path, content: bytes, *, foreign_folder: bool = False) -> None:
    """Write ``content`` to ``path`` atomically; no other user can open it at any moment.

    ``foreign_folder`` as `replace_atomically` takes it.
    """
    with replace_atomically(path, foreign_folder=foreign_folder) as aside:
        # O_EXCL: nobody else can have made the file. fchmod: whatever the umask, the owner reads.
        handle = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(handle, "wb") as file:
            os.fchmod(file.fileno(), 0o600)
            file.write(content)
