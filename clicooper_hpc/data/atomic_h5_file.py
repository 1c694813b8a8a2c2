"""`AtomicH5File`: an HDF5 file that appears complete under its name, or not at all.

Two things can go wrong inside the HDF5 library, and both end the process there (HDF5 2.0): a
write that fails (disk full), and a Python exception in a write (Ctrl-C). So

* the library writes through a `BackingFile`, which keeps a failure for us and never reports it to
  HDF5;
* all calls of the library run in one thread of their own, because Python runs signal handlers,
  and so raises KeyboardInterrupt, in the main thread only.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import h5py

from clicooper_hpc.errors import DataError

__all__ = ["AtomicH5File", "BackingFile"]

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
T = TypeVar("T")


class BackingFile(io.FileIO):
    """The file under an HDF5 file being written; unbuffered, never raises on write, see `failure`.

    When a write fails inside the HDF5 library, the library can neither close the file nor drop what
    it still holds: a second attempt to close it ends the process with a segmentation fault (HDF5
    2.0). So the first failure is kept here, later writes are accepted and dropped, the library
    closes in peace, and whoever owns the file reports the failure.

    Parameters
    ----------
    path
        File to create; FileExistsError if it is there.
    """

    def __init__(self, path: Path) -> None:
        # "x": a second import into the same temporary name must not write into the first one's
        # file.
        super().__init__(path, "x+b")
        self.failure: OSError | None = None
        """What the first failed write met (no space, quota, file size limit, broken device)."""

    def write(self, content: Any, /) -> int:
        """Write all of ``content``, or drop it once a write has failed."""
        view = memoryview(content).cast("B")
        try:
            # After a failure nothing more is written, but the library is told that all went well:
            # told of a failure, it would crash when it closes.
            done = len(view) if self.failure else 0
            while done < len(view):
                # An unbuffered write may take only a part, and on a file that is nearly full it
                # does.
                done += super().write(view[done:]) or 0
        except OSError as error:
            self.failure = error
        return len(view)

    def truncate(self, size: int | None = None, /) -> int:
        """Set the file's size, unless a write has failed."""
        try:
            if self.failure is None:
                return super().truncate(size)
        except OSError as error:
            self.failure = error
        return self.tell() if size is None else size

    def sync(self) -> None:
        """Wait until the content is on the device; failures are kept like those of writes."""
        try:
            # Some file systems report a full disk or a quota only here, not at the write.
            os.fsync(self.fileno())
        except OSError as error:
            self.failure = self.failure or error


class AtomicH5File:
    """A temporary HDF5 file beside ``target``, which `publish` gives its name.

    `create` it, `apply` actions to it, then `publish` or `discard` it.

    Parameters
    ----------
    target
        File to write.
    overwrite
        Replace an existing file (in one step, when the new one is complete).
    """

    def __init__(self, target: Path, *, overwrite: bool) -> None:
        self.target = target
        self._overwrite = overwrite
        # Beside the target, because a rename is one step only within one file system; hidden, and
        # with a random part, so that two imports at a time do not meet.
        self._part = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
        self._backing: BackingFile | None = None
        self._file: Any = None
        # One thread: h5py calls of one file must not overlap, and signal handlers never run here.
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="hdf5-output")

    @property
    def is_open(self) -> bool:
        """Whether there is a temporary file, neither published nor discarded."""
        return self._backing is not None

    def create(self) -> None:
        """Create the temporary file; DataError if the target is there or cannot be written."""
        self._refuse_existing()
        try:
            backing = self._backing = BackingFile(self._part)
        except OSError as error:
            raise self._error(error) from error
        try:
            # "v110" files can be read by every HDF5 since 1.10; newer chunk indices could not.
            self._file = self._run(lambda: h5py.File(backing, "w", libver="v110"))
        except BaseException:
            self.discard()
            raise

    def apply(self, action: Callable[[h5py.File], T]) -> T:
        """Run ``action`` on the file, in the file's thread; DataError if a write failed."""
        return self._run(lambda: action(self._file))

    def publish(self) -> None:
        """Close the file, make it durable and give it its name."""
        assert self._backing is not None  # noqa: S101 - an H5Output is published once
        self._run(self._file.close)
        # Before the rename: after a power cut the name must not stand for a file without content.
        self._run(self._backing.sync)
        self._refuse_existing()
        try:
            self._backing.close()
            # Atomic: readers see the old file or the whole new one.
            os.replace(self._part, self.target)
        except OSError as error:
            raise self._error(error) from error
        self._backing = None
        self._thread.shutdown()
        _fsync_folder(self.target.parent)

    def discard(self) -> None:
        """Remove the temporary file. Waits for an action still running."""
        backing, self._backing = self._backing, None
        if backing is not None:
            backing.failure = backing.failure or OSError(errno.ECANCELED, "discarded")
            # What the library says about a file that goes away does not matter any more.
            with contextlib.suppress(OSError, RuntimeError):
                self._thread.submit(lambda: self._file and self._file.close()).result()
            backing.close()
        # Missing when the file could not even be created.
        self._part.unlink(missing_ok=True)
        self._thread.shutdown()

    def _run(self, action: Callable[[], T]) -> T:
        """Run in the thread; what the backing met goes before what the library made of it."""
        try:
            value = self._thread.submit(action).result()
        except Exception:
            self._raise_failure()
            raise
        self._raise_failure()
        return value

    def _raise_failure(self) -> None:
        if self._backing is not None and self._backing.failure is not None:
            raise self._error(self._backing.failure) from self._backing.failure

    def _refuse_existing(self) -> None:
        if os.path.isdir(self.target):
            raise DataError("is a folder", where=str(self.target), remedy="Give a file name")
        if os.path.exists(self.target) and not self._overwrite:
            raise DataError(
                "exists already",
                where=str(self.target),
                remedy="Allow overwriting, or give another name",
            )

    def _error(self, error: OSError) -> DataError:
        # Only these errors go away by making room; for others the advice would mislead.
        room = "Make room and import again" if error.errno in _NO_ROOM else None
        return DataError(
            f"cannot be written ({error.strerror or error})", where=str(self.target), remedy=room
        )


def _fsync_folder(folder: Path) -> None:
    """Make a rename in ``folder`` survive a power cut, where the file system knows how."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
