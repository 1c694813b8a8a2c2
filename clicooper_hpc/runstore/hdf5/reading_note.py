"""Which HDF5 file this process is reading, and since when, for whoever watches it.

HDF5 is C code: on a file that was made to break it, a call may never come back or end the process,
and then Python cannot say which file it was. `share_reading_note` makes the note readable by the
process this one was forked from (`clicooper_hpc.commands.reading_guard`).
"""

from __future__ import annotations

import mmap
import os
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["ReadingNote", "note_reading", "share_reading_note"]

_HEAD = struct.Struct("<dQI")
_BYTES = 4096


class ReadingNote:
    """A note in memory that survives a fork: seconds (monotonic), bytes of the file, its path."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, _BYTES)

    def write_note(self, path: Path, size: int) -> None:
        """Say that ``path``, of ``size`` bytes, is being read from now on."""
        name = os.fsencode(path)[: _BYTES - _HEAD.size]
        self._memory[_HEAD.size : _HEAD.size + len(name)] = name
        self._memory[: _HEAD.size] = _HEAD.pack(time.monotonic(), size, len(name))

    def clear_note(self) -> None:
        """Say that nothing is being read."""
        self._memory[: _HEAD.size] = bytes(_HEAD.size)

    def read_note(self) -> tuple[str, float, int] | None:
        """Return path, seconds so far and bytes of the file being read, or None."""
        since, size, length = _HEAD.unpack(self._memory[: _HEAD.size])
        if not since:
            return None
        name = os.fsdecode(self._memory[_HEAD.size : _HEAD.size + length])
        return name, time.monotonic() - since, size


_shared: list[ReadingNote] = []


def share_reading_note() -> ReadingNote:
    """Keep notes from now on, in memory that a child shares; return where."""
    _shared[:] = [ReadingNote()]
    return _shared[0]


@contextmanager
def note_reading(path: Path, size: int) -> Iterator[None]:
    """Note that ``path``, of ``size`` bytes, is being read, if anybody asked for notes."""
    if not _shared:
        yield
        return
    _shared[0].write_note(path, size)
    try:
        yield
    finally:
        _shared[0].clear_note()
