"""An HDF5 file that appears complete under its name, or not at all, whatever happens meanwhile.

Two things can go wrong inside the HDF5 library, and both end the process there (HDF5 2.0): a
write that fails (disk full), and a Python exception in a write (Ctrl-C). So

* the library writes through a `Sink`, which keeps a failure for us and never reports it to HDF5;
* all calls of the library run in one thread of their own, because Python runs signal handlers,
  and so raises KeyboardInterrupt, in the main thread only.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import h5py

from clicooper_hpc.data.sink import Sink
from clicooper_hpc.errors import DataError

__all__ = ["H5Output"]

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
T = TypeVar("T")


class H5Output:
    """A temporary HDF5 file beside ``target``: `open`, `do` things, then `publish` or `discard`.

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
        self._part = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
        self._sink: Sink | None = None
        self._file: Any = None
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="hdf5-output")

    @property
    def is_open(self) -> bool:
        """Whether there is a temporary file, neither published nor discarded."""
        return self._sink is not None

    def open(self) -> None:
        """Create the temporary file; DataError if the target is there or cannot be written."""
        self._refuse_existing()
        try:
            sink = self._sink = Sink(self._part)
        except OSError as error:
            raise self._error(error) from error
        try:
            # "v110" files can be read by every HDF5 since 1.10; newer chunk indices could not.
            self._file = self._run(lambda: h5py.File(sink, "w", libver="v110"))
        except BaseException:
            self.discard()
            raise

    def do(self, action: Callable[[h5py.File], T]) -> T:
        """Run ``action`` on the file, in the file's thread; DataError if a write failed."""
        return self._run(lambda: action(self._file))

    def publish(self) -> None:
        """Close the file, make it durable and give it its name."""
        assert self._sink is not None  # noqa: S101 - an H5Output is published once
        self._run(self._file.close)
        self._run(self._sink.sync)
        self._refuse_existing()
        try:
            self._sink.close()
            os.replace(self._part, self.target)
        except OSError as error:
            raise self._error(error) from error
        self._sink = None
        self._thread.shutdown()
        _sync_folder(self.target.parent)

    def discard(self) -> None:
        """Remove the temporary file. Waits for an action still running."""
        sink, self._sink = self._sink, None
        if sink is not None:
            sink.failure = sink.failure or OSError(errno.ECANCELED, "discarded")
            # What the library says about a file that goes away does not matter any more.
            with contextlib.suppress(OSError, RuntimeError):
                self._thread.submit(lambda: self._file and self._file.close()).result()
            sink.close()
        self._part.unlink(missing_ok=True)
        self._thread.shutdown()

    def _run(self, action: Callable[[], T]) -> T:
        """Run in the thread; what the sink met goes before what the library made of it."""
        try:
            value = self._thread.submit(action).result()
        except Exception:
            self._raise_failure()
            raise
        self._raise_failure()
        return value

    def _raise_failure(self) -> None:
        if self._sink is not None and self._sink.failure is not None:
            raise self._error(self._sink.failure) from self._sink.failure

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
        room = "Make room and import again" if error.errno in _NO_ROOM else None
        return DataError(
            f"cannot be written ({error.strerror or error})", where=str(self.target), remedy=room
        )


def _sync_folder(folder: Path) -> None:
    """Make a rename in ``folder`` survive a power cut, where the file system knows how."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
