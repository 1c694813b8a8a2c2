"""Reading foreign binary files exactly: every short or damaged read names file and byte."""

from __future__ import annotations

import gzip
import lzma
import os
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Protocol

from clicooper_hpc.errors import DataError

__all__ = [
    "BLOCK_BYTES",
    "ExactReader",
    "ReadableStream",
    "open_exact_reader",
    "open_source_file",
    "reader_errors",
]

BLOCK_BYTES = 4 * 1024 * 1024
"""How much of a source is in memory at a time."""


_REMEDY = "Fetch or write the file again"


@contextmanager
def reader_errors(where: Callable[[], str]) -> Iterator[None]:
    """Turn what damaged archives, streams and disks raise into one DataError.

    ``where`` is asked after the failure, so that it can tell how far reading came.
    """
    try:
        yield
    # gzip raises this where a download broke off.
    except EOFError as error:
        raise DataError("is cut short", where=where(), remedy=_REMEDY) from error
    # The last four: numbers and names in archives that the libraries do not look at before use.
    except (
        zlib.error,
        lzma.LZMAError,
        gzip.BadGzipFile,
        tarfile.TarError,
        zipfile.BadZipFile,
        struct.error,
        ValueError,
        OverflowError,
        LookupError,
    ) as error:
        raise DataError(f"is damaged ({error})", where=where(), remedy=_REMEDY) from error
    # zipfile: RuntimeError for encrypted members, NotImplementedError for unknown compression.
    except (OSError, RuntimeError, NotImplementedError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"cannot be read ({reason})", where=where()) from error


class ReadableStream(Protocol):
    """A binary stream."""

    def read(self, count: int, /) -> bytes:
        """Return up to ``count`` bytes; none only at the end."""


class ExactReader:
    """A stream that returns exactly what was asked for, or raises DataError.

    Parameters
    ----------
    stream
        Binary stream, read from its start.
    where
        File (and archive member) for messages.
    """

    def __init__(self, stream: ReadableStream, where: str) -> None:
        self._stream = stream
        self.where = where
        self.offset = 0
        """Bytes (unpacked) read so far."""

    def position(self) -> str:
        """File, member and byte offset, for messages."""
        return f"{self.where}, byte {self.offset}"

    def read(self, count: int) -> bytes:
        """Return the next ``count`` bytes."""
        # A damaged header may say so; a stream would return all it has.
        if count < 0:
            raise DataError("declares fewer bytes than none", where=self.position())
        with reader_errors(self.position):
            content = self._stream.read(count)
        self.offset += len(content)
        if len(content) < count:
            raise DataError(
                f"ends here, {count - len(content):,} bytes early",
                where=self.position(),
                remedy=_REMEDY,
            )
        return content

    def expect_end(self) -> None:
        """Raise DataError if anything follows; checks the checksum of a gzip or zip stream."""
        with reader_errors(self.position):
            # Reading past the end makes gzip and zipfile check their checksum over the whole.
            more = self._stream.read(1)
        if more:
            raise DataError("goes on where it should end", where=self.position())


def open_source_file(path: Path) -> IO[bytes]:
    """Open a regular file, wherever links lead, for reading.

    Raises
    ------
    DataError
        It is a pipe or a device, which could be waited for without end, or cannot be opened.
    """
    with reader_errors(path.__str__):
        # A FIFO answers at once instead of waiting for a writer. Looked at by its descriptor, so
        # nothing can be exchanged between the look and the reading.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise DataError(
            "is no regular file (a folder, a pipe or a device)",
            where=str(path),
            remedy="Store what it gives as a file",
        )
    return os.fdopen(descriptor, "rb")


@contextmanager
def open_exact_reader(path: Path) -> Iterator[ExactReader]:
    """Open a file, unpacking it on the fly if it starts like gzip (whatever its name)."""
    with open_source_file(path) as raw:
        with reader_errors(path.__str__):
            # By content, not by name: browsers unpack .gz files and keep the name, or the reverse.
            packed = raw.read(2) == b"\x1f\x8b"
            raw.seek(0)
        if packed:
            with gzip.GzipFile(fileobj=raw) as stream:
                yield ExactReader(stream, str(path))
        else:
            yield ExactReader(raw, str(path))
