"""The file under an HDF5 file being written, able to outlive a full disk.

When a write fails inside the HDF5 library, the library can neither close the file nor drop what
it still holds: a second attempt to close it ends the process with a segmentation fault (HDF5
2.0). So the first failure is kept here, later writes are accepted and dropped, the library
closes in peace, and whoever owns the file reports the failure.
"""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

__all__ = ["Sink"]


class Sink(io.FileIO):
    """A new unbuffered file that never raises on write; see `failure`.

    Parameters
    ----------
    path
        File to create; FileExistsError if it is there.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, "x+b")
        self.failure: OSError | None = None
        """What the first failed write met (no space, quota, file size limit, broken device)."""

    def write(self, content: Any, /) -> int:
        """Write all of ``content``, or drop it once a write has failed."""
        view = memoryview(content).cast("B")
        try:
            done = len(view) if self.failure else 0
            while done < len(view):
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
            os.fsync(self.fileno())
        except OSError as error:
            self.failure = self.failure or error
