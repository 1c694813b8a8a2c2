"""Read an HDF5 file whatever state it is in: closed, being written, left by a kill, damaged.

HDF5's own reader of live files (SWMR) is not used: it also opens what a kill left, but where a
checksum is wrong it tries a hundred times and doubles its pause each time, which never ends. So a
file whose superblock says "open for writing" is shown to HDF5 with that mark taken out, and this
module tries again, a few times, should a writer have been in the middle of something.

Sound because our writer is in SWMR mode: what a reader can reach is always written first.
"""

from __future__ import annotations

import io
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import h5py

from clicooper_hpc.errors import RunFolderError

__all__ = ["checksum", "read_file"]

T = TypeVar("T")

_SIGNATURE = b"\x89HDF\r\n\x1a\n"
# Superblock version 2 and 3 (HDF5 file format specification, section II.A): signature, version,
# size of offsets, size of lengths, consistency flags, base, extension, end of file, root; checksum.
_SUPERBLOCK = struct.Struct("<8s4B4Q")
_OPEN_FOR_WRITING = 0b101
_BEYOND = 1 << 40
_ATTEMPTS = 20
_PAUSE_S = 0.02


def read_file(path: Path, action: Callable[[Any], T]) -> T:
    """Open ``path`` for reading, hand it to ``action``, and return what that returns.

    ``action`` runs again from the start if a live file changed under it; it must keep nothing.

    Raises
    ------
    RunFolderError
        The file is missing, damaged or not HDF5.
    """
    if not path.is_file():
        raise RunFolderError(
            "the file is missing",
            where=str(path),
            remedy="Name the folder of a run, or bring the file back from where it was moved.",
        )
    for attempt in range(_ATTEMPTS):
        live = False
        try:
            live = _is_live(path)
            if live:
                with _View(path) as view, h5py.File(view, "r") as file:
                    return action(file)
            with h5py.File(path, "r", locking=False) as file:
                return action(file)
        except (OSError, RuntimeError, KeyError) as error:
            if not live or attempt + 1 == _ATTEMPTS:
                first_line = (str(error).splitlines() or [type(error).__name__])[0]
                raise RunFolderError(
                    f"the file is damaged or not HDF5 ({first_line})",
                    where=str(path),
                    remedy="Restore it from a copy; the files of the other ranks are not affected.",
                ) from error
        time.sleep(_PAUSE_S)
    raise AssertionError("unreachable")


def _is_live(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(_SUPERBLOCK.size)
    if len(head) < _SUPERBLOCK.size:
        return False
    signature, version, _, _, flags, *_ = _SUPERBLOCK.unpack(head)
    return bool(signature == _SIGNATURE and version == 3 and flags & _OPEN_FOR_WRITING)


class _View(io.RawIOBase):
    """The bytes of a file, except that the superblock says it is closed and ends far away.

    The stored end of file is from when the file was opened for writing, and the real one moves.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb", buffering=0)
        head = self._file.read(_SUPERBLOCK.size)
        stored = self._file.read(4)
        if len(stored) < 4 or struct.unpack("<I", stored)[0] != checksum(head):
            self._file.close()
            raise OSError("incorrect superblock checksum")
        fields = list(_SUPERBLOCK.unpack(head))
        fields[4] = 0
        fields[7] = _BEYOND
        head = _SUPERBLOCK.pack(*fields)
        self._head = head + struct.pack("<I", checksum(head))
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


def checksum(data: bytes) -> int:
    """Return HDF5's metadata checksum of ``data``: Jenkins' lookup3 ``hashlittle``, seed 0.

    ``data`` must not be empty. Source: B. Jenkins, lookup3.c, May 2006.
    """
    mask = 0xFFFFFFFF

    def turn(value: int, by: int) -> int:
        return ((value << by) | (value >> (32 - by))) & mask

    a = b = c = (0xDEADBEEF + len(data)) & mask
    padded = data + bytes(-len(data) % 12)
    words = struct.unpack(f"<{len(padded) // 4}I", padded)
    for place in range(0, len(words), 3):
        a = (a + words[place]) & mask
        b = (b + words[place + 1]) & mask
        c = (c + words[place + 2]) & mask
        if place + 3 < len(words):
            a = ((a - c) & mask) ^ turn(c, 4)
            c = (c + b) & mask
            b = ((b - a) & mask) ^ turn(a, 6)
            a = (a + c) & mask
            c = ((c - b) & mask) ^ turn(b, 8)
            b = (b + a) & mask
            a = ((a - c) & mask) ^ turn(c, 16)
            c = (c + b) & mask
            b = ((b - a) & mask) ^ turn(a, 19)
            a = (a + c) & mask
            c = ((c - b) & mask) ^ turn(b, 4)
            b = (b + a) & mask
    c = ((c ^ b) - turn(b, 14)) & mask
    a = ((a ^ c) - turn(c, 11)) & mask
    b = ((b ^ a) - turn(a, 25)) & mask
    c = ((c ^ b) - turn(b, 16)) & mask
    a = ((a ^ c) - turn(c, 4)) & mask
    b = ((b ^ a) - turn(a, 14)) & mask
    return ((c ^ b) - turn(b, 24)) & mask
