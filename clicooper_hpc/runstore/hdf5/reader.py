"""`read_hdf5_file`: read an HDF5 file that is closed, being written, left by a kill, or damaged.

The one way to an HDF5 file of a run: it must be a regular file (`regular_files`) and hold nothing a
run never writes (`vetting`) before anything of it is used.

HDF5's own reader of live files (SWMR) is not used: it also opens what a kill left, but where a
checksum is wrong it tries a hundred times and doubles its pause each time, which never ends. So a
file whose superblock says "open for writing" is shown to HDF5 with that mark taken out, and this
module tries again, a few times, should a writer have been in the middle of something.

Sound because our writer is in SWMR mode: what a reader can reach is always written first.
"""

from __future__ import annotations

import io
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

import h5py

from clicooper_hpc.errors import RunFolderError
from clicooper_hpc.runstore.hdf5.files import hdf5_error_line
from clicooper_hpc.runstore.hdf5.reading_note import note_reading
from clicooper_hpc.runstore.hdf5.superblock import (
    SUPERBLOCK_BYTES,
    closed_superblock,
    is_superblock_live,
    is_superblock_sound,
)
from clicooper_hpc.runstore.hdf5.vetting import (
    NO_LINKS,
    LinkRules,
    UnexpectedContentError,
    vet_hdf5_file,
)
from clicooper_hpc.runstore.regular_files import open_regular_file, stored_file_bytes

__all__ = ["read_hdf5_bytes", "read_hdf5_file", "unopened_file"]

T = TypeVar("T")

#: h5py turns what HDF5 says of a damaged file into any of these, by HDF5's innermost code.
_REFUSALS: Final = (
    OSError,
    RuntimeError,
    KeyError,
    ValueError,
    TypeError,
    UnexpectedContentError,
)
# Where a live file is said to end: the stored end is from when it was opened for writing.
_BEYOND = 1 << 40
# 0.4 s in all, for a writer that is in the middle of something.
_ATTEMPTS = 20
_PAUSE_S = 0.02
# A file that takes long to refuse is not refused twenty times; but any is tried once more.
_PATIENCE_S = 2.0


def read_hdf5_file(
    path: Path, action: Callable[[Any], T], *, rules: LinkRules = NO_LINKS, below: str = ""
) -> T:
    """Open ``path`` for reading, hand it to ``action``, and return what that returns.

    ``action`` runs again from the start if the file changed under it; it must keep nothing.
    ``rules`` are the links the file may have, none of which is followed here; ``below`` is the
    path of the one group that ``action`` reads, if it is not the whole file.

    Raises
    ------
    RunFolderError
        The file is missing, no regular file, damaged or not HDF5, or holds what no run writes.
    PermissionError
        This user may not read it.
    """
    start = time.monotonic()
    for attempt in range(_ATTEMPTS):
        # Opened anew in every attempt: a writer may have closed or replaced the file meanwhile.
        descriptor = _open(path)
        try:
            state = _state(descriptor)
            with (
                note_reading(path, state.size),
                _hdf5_of(descriptor, path, live=state.live) as file,
            ):
                vet_hdf5_file(file, stored_file_bytes(descriptor), rules, below=below)
                return action(file)
        except _REFUSALS as error:
            refusal = _unreadable(str(path), error)
        finally:
            os.close(descriptor)
        time.sleep(_PAUSE_S)
        # A closed file does not get better by waiting; one that looked closed, and was opened by
        # its writer before HDF5 had read it, does.
        if not state.live and _state_of(path) == state:
            break
        if attempt and time.monotonic() - start > _PATIENCE_S:
            break
    raise refusal


def read_hdf5_bytes(content: bytes, action: Callable[[Any], T], *, where: str) -> T:
    """Do what `read_hdf5_file` does with a file that came as bytes; errors name ``where``."""
    try:
        with h5py.File(io.BytesIO(content), "r") as file:
            vet_hdf5_file(file, len(content))
            return action(file)
    except _REFUSALS as error:
        raise _unreadable(where, error) from None


def unopened_file(path: Path, error: OSError) -> RunFolderError:
    """Return what to say of a file that the system does not open."""
    return RunFolderError(
        f"the file cannot be opened ({error.strerror})",
        where=str(path),
        remedy="Name the folder of a run that you may read.",
    )


def _open(path: Path) -> int:
    try:
        return open_regular_file(path)
    except (FileNotFoundError, NotADirectoryError):
        raise RunFolderError(
            "the file is missing",
            where=str(path),
            remedy="Name the folder of a run, or bring the file back from where it was moved.",
        ) from None
    except PermissionError:
        raise
    # A circle of links, a name too long, a disk that fails: none of it is the file of a run.
    except OSError as error:
        raise unopened_file(path, error) from None


class _State(NamedTuple):
    """What shows that a file was written to or replaced."""

    head: bytes
    size: int
    changed_ns: int
    inode: int

    @property
    def live(self) -> bool:
        """Whether the file is marked as open for writing."""
        return is_superblock_live(self.head)


def _state(descriptor: int) -> _State:
    facts = os.fstat(descriptor)
    head = os.pread(descriptor, SUPERBLOCK_BYTES, 0)
    return _State(head, facts.st_size, facts.st_mtime_ns, facts.st_ino)


def _state_of(path: Path) -> _State:
    descriptor = _open(path)
    try:
        return _state(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _hdf5_of(descriptor: int, path: Path, *, live: bool) -> Iterator[Any]:
    if live:
        with _View(descriptor) as view, h5py.File(view, "r") as file:
            yield file
        return
    # The descriptor under its name in /proc: by its path it could be another file by now.
    opened = Path(f"/proc/self/fd/{descriptor}")
    with h5py.File(opened if opened.exists() else path, "r", locking=False) as file:
        yield file


def _unreadable(where: str, error: Exception) -> RunFolderError:
    if isinstance(error, UnexpectedContentError):
        return RunFolderError(
            error.what,
            where=f"{where}, {error.place}",
            remedy="Bring back the file the run wrote.",
        )
    return RunFolderError(
        f"the file is damaged or not HDF5 ({hdf5_error_line(error)})",
        where=where,
        remedy="Restore it from a copy; the files of the other ranks are not affected.",
    )


class _View(io.RawIOBase):
    """The bytes of a live file, except that its superblock says it is closed."""

    def __init__(self, descriptor: int) -> None:
        # Unbuffered: an old copy of what the writer has replaced would look like damage.
        self._file = os.fdopen(os.dup(descriptor), "rb", buffering=0)
        self._file.seek(0)
        head = self._file.read(SUPERBLOCK_BYTES)
        # HDF5 checks the checksum made here, so the one on disk has to be checked before.
        if len(head) < SUPERBLOCK_BYTES or not is_superblock_sound(head):
            self._file.close()
            raise OSError("incorrect superblock checksum")
        self._head = closed_superblock(head, _BEYOND)
        self._at = 0

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: _BEYOND}[whence]
        self._at = base + offset
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any, /) -> int:
        wanted = memoryview(buffer).cast("B")
        self._file.seek(self._at)
        got = self._file.readinto(wanted) or 0
        # Behind the real end there are zeros, as HDF5 expects of space not written yet.
        wanted[got:] = bytes(len(wanted) - got)
        if self._at < len(self._head):
            covered = self._head[self._at : self._at + len(wanted)]
            wanted[: len(covered)] = covered
        self._at += len(wanted)
        return len(wanted)

    def close(self) -> None:
        self._file.close()
        super().close()
