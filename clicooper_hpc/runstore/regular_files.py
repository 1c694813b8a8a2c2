"""Open files of a run folder that somebody else may have made: regular files in it, nothing else.

A symbolic link could lead to another file of the reader, a FIFO or device would hang it, a file
full of holes would fill its memory. What is opened is looked at by its descriptor, so nothing can
be exchanged between the look and the reading.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from clicooper_hpc.errors import RunFolderError
from clicooper_hpc.runstore.limits import (
    FREE_BYTES,
    MOST_FILE_BYTES,
    MOST_FOLDERS,
    MOST_UNFOLDING,
)

__all__ = [
    "open_regular_file",
    "read_named_file",
    "read_regular_file",
    "refuse_irregular_entries",
    "stored_file_bytes",
]

# Not following links; a FIFO or a device answers at once instead of waiting for a writer.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_FOLDER = os.O_RDONLY | os.O_NOFOLLOW | os.O_DIRECTORY | os.O_CLOEXEC

# PATH_MAX of Linux, less the name of a file.
_MOST_PATH_BYTES = 4096 - 256


def open_regular_file(path: Path, *, within: Path | None = None) -> int:
    """Open ``path`` for reading and return its descriptor, which the caller closes.

    Parameters
    ----------
    path
        The file.
    within
        A folder above it (default: the one it lies in): below that no link is followed. The folder
        itself is the reader's choice and may be one.

    Raises
    ------
    RunFolderError
        It, or a folder on the way, is a link; or it is no regular file.
    OSError
        It is missing, or may not be read.
    """
    root = path.parent if within is None else within
    *folders, name = path.relative_to(root).parts
    at = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for place, folder in enumerate(folders):
            # One by one: O_NOFOLLOW speaks of the last name of a path alone.
            below = _open_one(folder, _FOLDER, at, root.joinpath(*folders[: place + 1]))
            os.close(at)
            at = below
        descriptor = _open_one(name, _FILE, at, path)
    finally:
        os.close(at)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise _irregular(path)
    return descriptor


def read_regular_file(
    path: Path, *, within: Path | None = None, most: int = MOST_FILE_BYTES
) -> bytes:
    """Return the content of ``path``, at most ``most`` bytes; else as `open_regular_file`.

    Raises
    ------
    RunFolderError
        As `open_regular_file`; or it is larger, mostly holes, or does not fit into memory.
    OSError
        It is missing, or cannot be read.
    """
    descriptor = open_regular_file(path, within=within)
    with os.fdopen(descriptor, "rb") as file:
        size = os.fstat(descriptor).st_size
        if size > most:
            raise RunFolderError(
                f"the file has {size} bytes, at most {most} are read",
                where=str(path),
                remedy="Bring back the file the run wrote.",
            )
        if size > FREE_BYTES + MOST_UNFOLDING * stored_file_bytes(descriptor):
            raise RunFolderError(
                f"the file has {size} bytes, nearly all of them never written",
                where=str(path),
                remedy="Bring back the file the run wrote.",
            )
        try:
            # One more than it had: a file that grows meanwhile is not read without end.
            return file.read(size + 1)
        except MemoryError:
            raise RunFolderError(
                f"the file has {size} bytes, more than there is memory",
                where=str(path),
                remedy="Read it on a machine with more memory.",
            ) from None


def read_named_file(path: Path, *, most: int = MOST_FILE_BYTES) -> bytes:
    """Return the content of a file that the user named, wherever links lead; else as above."""
    # Not Path.resolve: it raises RuntimeError where links lead in a circle.
    return read_regular_file(Path(os.path.realpath(path)), most=most)


def stored_file_bytes(descriptor: int) -> int:
    """Return how many bytes of an open file are really stored; holes are not counted.

    Files up to `FREE_BYTES` count in full, and so does every file where the file system does not
    tell. Counting ends once it is enough for the whole file to be read.
    """
    size = os.fstat(descriptor).st_size
    if size <= FREE_BYTES:
        return size
    stored = at = 0
    try:
        while at < size and MOST_UNFOLDING * stored < size:
            start = os.lseek(descriptor, at, os.SEEK_DATA)
            at = os.lseek(descriptor, start, os.SEEK_HOLE)
            stored += at - start
    except OSError as error:
        # ENXIO: only a hole is left. Anything else: this file system knows no holes.
        stored = stored if error.errno == errno.ENXIO else size
    os.lseek(descriptor, 0, os.SEEK_SET)
    return stored if at < size and MOST_UNFOLDING * stored < size else size


def refuse_irregular_entries(folder: Path) -> None:
    """Refuse a run folder that holds, at any depth, a link or anything but files and folders.

    For a start that will write into it: what it writes must not land elsewhere.

    Raises
    ------
    RunFolderError
        Naming the first one; or folders are nested deeper than any run nests them.
    OSError
        A folder cannot be read.
    """
    waiting = [(folder, 0)]
    while waiting:
        place, depth = waiting.pop()
        # Before the system refuses the path: how long one may be differs between systems.
        if depth > MOST_FOLDERS or len(os.fsencode(place)) > _MOST_PATH_BYTES:
            raise RunFolderError(
                "folders are nested too deeply or named too long for a run folder",
                where=str(place),
                remedy="Take out what the run did not write.",
            )
        with os.scandir(place) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    waiting.append((Path(entry.path), depth + 1))
                elif not entry.is_file(follow_symlinks=False):
                    raise _irregular(Path(entry.path))


def _open_one(name: str, flags: int, at: int, path: Path) -> int:
    try:
        return os.open(name, flags, dir_fd=at)
    except OSError as error:
        # ELOOP, or ENOTDIR of a folder: a link. ENXIO: a socket.
        if error.errno in (errno.ELOOP, errno.ENXIO, errno.ENOTDIR):
            raise _irregular(path) from None
        # The system names the last part only.
        error.filename = str(path)
        raise


def _irregular(path: Path) -> RunFolderError:
    return RunFolderError(
        "this is no regular file (a link, a folder, a pipe, a socket or a device)",
        where=str(path),
        remedy="Nothing is followed out of a run folder: put the file itself there.",
    )
