"""The file of a privacy account: its owner's alone, locked by one writer, only appended to."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from clicooper_hpc.errors import ClicooperError, EnvironmentUnfitError, UsageError
from clicooper_hpc.runstore.atomic_files import fsync_folder
from clicooper_hpc.runstore.regular_files import read_regular_file

__all__ = ["LockedAccount", "account_file_exists", "lock_account_file", "read_account_file"]

#: Far more than any number of runs; a larger file is none of ours.
_MOST_BYTES = 2**28
_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_POLL_S = 0.05


class LockedAccount:
    """An account file that no other process writes while this object is open."""

    def __init__(self, path: Path, descriptor: int, content: bytes) -> None:
        self._path = path
        self._descriptor = descriptor
        #: All bytes, as they were when the lock was taken.
        self.content = content

    def append_line(self, line: bytes, whole_bytes: int) -> None:
        """Put ``line`` behind the first ``whole_bytes`` and force it to the disk.

        What is behind them, the torn line of a killed writer, is taken away.

        Raises
        ------
        EnvironmentUnfitError
            It cannot be written; the file is as it was, but for that torn line.
        """
        try:
            os.ftruncate(self._descriptor, whole_bytes)
            try:
                rest = memoryview(line)
                while rest:
                    rest = rest[os.write(self._descriptor, rest) :]
                os.fsync(self._descriptor)
            except OSError:
                os.ftruncate(self._descriptor, whole_bytes)
                raise
        except OSError as error:
            raise EnvironmentUnfitError(
                f"the privacy account cannot be written ({error.strerror})",
                where=str(self._path),
                remedy="Nothing was sent. Free space there, or make it writable.",
            ) from error


def account_file_exists(path: Path) -> bool:
    """Whether there is anything under this name; `UsageError` if nothing could be."""
    if os.path.lexists(path):
        return True
    if not path.parent.is_dir():
        raise _unreachable(path, FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT)))
    return False


def read_account_file(path: Path) -> bytes:
    """Return the bytes of the account file; its last line may be being written.

    Raises
    ------
    ClicooperError
        It is missing, no file, or open to others.
    """
    try:
        _check_state(path, os.lstat(path))
        return read_regular_file(path, most=_MOST_BYTES)
    except OSError as error:
        raise _unreachable(path, error) from error


@contextmanager
def lock_account_file(path: Path, *, deadline_s: float) -> Iterator[LockedAccount]:
    """Make the file if it is missing, wait for its lock, and give it.

    The lock is taken back by the system when the process ends, however it ends.

    Raises
    ------
    EnvironmentUnfitError
        It cannot be made or locked, or is open to others.
    """
    descriptor = _open_locked(path, time.monotonic() + deadline_s)
    try:
        try:
            content = _read_all(descriptor)
        except OSError as error:
            raise _unreachable(path, error) from error
        yield LockedAccount(path, descriptor, content)
    finally:
        # Which gives the lock back.
        os.close(descriptor)


def _open_locked(path: Path, deadline: float) -> int:
    while True:
        descriptor = _open(path)
        try:
            _check_state(path, os.fstat(descriptor))
            _lock(path, descriptor, deadline)
            # Somebody may have put another file in its place while this one waited.
            if os.path.samestat(os.fstat(descriptor), os.lstat(path)):
                return descriptor
        except FileNotFoundError:
            pass
        except OSError as error:
            os.close(descriptor)
            raise _unreachable(path, error) from error
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _open(path: Path) -> int:
    flags = os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        try:
            descriptor = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            return os.open(path, flags)
        # Whatever the umask; and its name must be there after a lost node, or it would be empty.
        os.fchmod(descriptor, 0o600)
        fsync_folder(path.parent)
    except OSError as error:
        raise _unreachable(path, error) from error
    return descriptor


def _lock(path: Path, descriptor: int, deadline: float) -> None:
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise EnvironmentUnfitError(
                    "another process holds the privacy account",
                    where=str(path),
                    remedy="It is held for moments only: look which process hangs there.",
                ) from None
            time.sleep(_POLL_S)
        except OSError as error:
            # Unlike a run folder, which is one run's alone, an account without a lock is none.
            raise EnvironmentUnfitError(
                f"the file system cannot lock the privacy account ({error.strerror})",
                where=str(path),
                remedy="Keep it on a file system with locks (`clicooper doctor -o FOLDER`).",
            ) from error


def _read_all(descriptor: int) -> bytes:
    if os.fstat(descriptor).st_size > _MOST_BYTES:
        raise OSError(errno.EFBIG, "is far too large for a privacy account")
    content = bytearray()
    while part := os.pread(descriptor, 2**20, len(content)):
        content += part
    return bytes(content)


def _check_state(path: Path, state: os.stat_result) -> None:
    if not stat.S_ISREG(state.st_mode):
        raise UsageError(
            "is no file",
            where=str(path),
            remedy="Name the account's own file, not a link or a folder.",
        )
    if state.st_uid != os.geteuid():
        raise EnvironmentUnfitError(
            "the privacy account belongs to another user",
            where=str(path),
            remedy="Run as the user who owns it.",
        )
    if state.st_mode & _OTHERS:
        raise EnvironmentUnfitError(
            f"other users may reach the privacy account (mode {stat.S_IMODE(state.st_mode):o})",
            where=str(path),
            remedy=f"Run `chmod 600 {path}`; if that does not hold, use another file system.",
        )


def _unreachable(path: Path, error: OSError) -> ClicooperError:
    if error.errno == errno.ELOOP:
        return UsageError(
            "is a link", where=str(path), remedy="Name the account's own file, not a link."
        )
    if isinstance(error, (FileNotFoundError, NotADirectoryError, IsADirectoryError)):
        return UsageError(
            f"there can be no privacy account ({error.strerror})",
            where=str(path),
            remedy="Name a file in a folder that is there.",
        )
    return EnvironmentUnfitError(
        f"the privacy account cannot be reached ({error.strerror})",
        where=str(path),
        remedy="Keep it where the user of this job may read and write.",
    )
