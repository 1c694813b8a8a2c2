"""Try out what a run does to its folder, in a folder of its own that is removed afterwards."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

__all__ = [
    "FolderFacts",
    "nearest_probe_folder",
    "probe_file_system",
    "probe_folder",
    "probe_trial_folder",
]

_TRIAL_BYTES = 64 * 2**10
_MOUNTS = Path("/proc/mounts")


@dataclass(frozen=True, slots=True)
class FolderFacts:
    """What a folder can do. Texts are "" where all went well, else the reason.

    Parameters
    ----------
    path, kind
        The folder, and the type of its file system as the system calls it ("" if unknown).
    free_bytes
        Space left for this user.
    writing
        Making and writing a file of 64 KiB; the other trials are made only if that worked.
    renaming
        Replacing a file by another in one step.
    syncing, syncing_folders
        Forcing a file, and the names in a folder, to the disk.
    keeps_rights
        Whether files and folders stay closed to other users.
    locking
        Locking a file: "", or the name of the error, as in "ENOLCK".
    """

    path: str
    kind: str
    free_bytes: int
    writing: str
    renaming: str = ""
    syncing: str = ""
    syncing_folders: str = ""
    keeps_rights: bool = True
    locking: str = ""


def nearest_probe_folder(path: Path) -> Path:
    """Return ``path`` if it is there, else the nearest folder above it that is."""
    # Links are not resolved: it is shown to the user, by the name that was given.
    whole = Path(os.path.abspath(path))
    return next(folder for folder in (whole, *whole.parents) if folder.is_dir())


def probe_file_system(path: str, mounts: str) -> str:
    """Return the type of the file system of ``path`` by ``mounts``, the text of /proc/mounts."""
    best, kind = "", ""
    for line in mounts.splitlines():
        fields = line.split(" ")
        if len(fields) < 3:
            continue
        # The kernel writes blanks in mount points as \\040.
        point = re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), fields[1])
        inside = path == point or path.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best):  # of two mounts at one place the later one counts
            best, kind = point, fields[2]
    return kind


def probe_trial_folder(folder: Path) -> tempfile.TemporaryDirectory[str]:
    """Make a folder for trials inside ``folder``; `OSError` if that cannot be."""
    return tempfile.TemporaryDirectory(dir=folder, prefix=".clicooper-doctor-")


def probe_folder(folder: Path) -> FolderFacts:
    """Try out ``folder``, which must exist. Raises nothing: what fails is in the answer."""
    mounts = _MOUNTS.read_text(errors="replace") if _MOUNTS.is_file() else ""
    path, kind = str(folder), probe_file_system(os.path.realpath(folder), mounts)
    free = 0
    with suppress(OSError):
        free = shutil.disk_usage(folder).free
    try:
        with probe_trial_folder(folder) as name:
            place = Path(name)
            secret = place / "secret"
            failed = _attempt_probe(lambda: _probe_write(secret))
            if failed:
                return FolderFacts(path, kind, free, failed)
            return FolderFacts(
                path,
                kind,
                free,
                writing="",
                renaming=_attempt_probe(lambda: _probe_rename(place)),
                syncing=_attempt_probe(lambda: _probe_fsync(secret)),
                syncing_folders=_attempt_probe(lambda: _probe_fsync(place)),
                keeps_rights=_probe_is_private(secret, 0o600) and _probe_is_private(place, 0o700),
                locking=_probe_lock(secret),
            )
    except OSError as error:
        return FolderFacts(path, kind, free, _probe_error(error))


def _probe_error(error: OSError) -> str:
    return error.strerror or type(error).__name__


def _attempt_probe(trial: Callable[[], None]) -> str:
    try:
        trial()
    except OSError as error:
        return _probe_error(error)
    return ""


def _probe_write(path: Path) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(os.urandom(_TRIAL_BYTES))


def _probe_rename(place: Path) -> None:
    old, new = place / "old", place / "new"
    old.write_bytes(b"old")
    new.write_bytes(b"new")
    new.replace(old)
    if new.exists() or old.read_bytes() != b"new":
        raise OSError(errno.EIO, "the old file is still there")


def _probe_fsync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _probe_is_private(path: Path, mode: int) -> bool:
    return path.stat().st_mode & 0o777 == mode


def _probe_lock(path: Path) -> str:
    handle = os.open(path, os.O_RDWR)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, "unknown")
    finally:
        os.close(handle)
    return ""
