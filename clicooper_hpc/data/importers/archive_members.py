"""Named files inside a published .tar.gz or inside the folder it unpacks to.

Archive members are read as streams. Nothing is unpacked to disk, so member paths cannot lead
anywhere, and links and devices in an archive are not looked at.
"""

from __future__ import annotations

import gzip
import tarfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from clicooper_hpc.data.importers.exact_reader import ExactReader, open_source_file, reader_errors
from clicooper_hpc.errors import DataError

__all__ = ["ArchiveMember", "ArchiveMembers", "open_archive_members"]

_BLOCK = 1024 * 1024
# The published archives unpack to 185 MB in 8 files; a few kilobytes can unpack to terabytes.
_MOST_UNPACKED = 512 * 1024 * 1024
_MOST_MEMBERS = 4096
_MOST_NAME = 200


@dataclass(frozen=True, slots=True)
class ArchiveMember:
    """One regular file: base name, place (for messages), size in bytes, how to open it."""

    name: str
    where: str
    size: int
    open_stream: Callable[[], IO[bytes]]

    @contextmanager
    def open_reader(self) -> Iterator[ExactReader]:
        """Open the file for exact reading."""
        with reader_errors(self.where.__str__):
            stream = self.open_stream()
        with stream:
            yield ExactReader(stream, self.where)


class ArchiveMembers:
    """All files of one archive or folder, by base name.

    Parameters
    ----------
    source
        The archive or folder, for messages.
    found
        The files in it, at any depth.
    """

    def __init__(self, source: Path, found: Iterable[ArchiveMember]) -> None:
        self.source = source
        # By base name: an archive has its files in a folder, which a user may give or leave out.
        self._by_name: dict[str, list[ArchiveMember]] = {}
        for member in found:
            self._by_name.setdefault(member.name, []).append(member)

    def __contains__(self, name: object) -> bool:
        return name in self._by_name

    def pick_member(self, name: str) -> ArchiveMember:
        """Return the one file called ``name``; DataError if there is none or more than one."""
        matching = self._by_name.get(name, [])
        # Two files of one name: taking the first would depend on the order in the archive.
        if len(matching) != 1:
            found = "no file" if not matching else f"{len(matching)} files"
            raise DataError(f"holds {found} called {name}", where=str(self.source))
        return matching[0]


@contextmanager
def open_archive_members(source: Path) -> Iterator[ArchiveMembers]:
    """List the files of an archive (any depth) or a folder (itself and one level below).

    Parameters
    ----------
    source
        A gzip-compressed tar file, or a folder.

    Raises
    ------
    DataError
        If the archive is not a .tar.gz or is damaged anywhere (its checksum covers every byte).
    """
    if source.is_dir():
        yield ArchiveMembers(source, _folder_members(source))
        return
    with open_source_file(source) as raw, gzip.GzipFile(fileobj=raw) as unpacked:
        with reader_errors(lambda: f"{source}, near byte {raw.tell()}"):
            # The whole of it once: checks every checksum.
            while unpacked.read(_BLOCK):
                if unpacked.tell() > _MOST_UNPACKED:
                    raise _not_published(f"unpacks to more than {_MOST_UNPACKED:,} bytes", source)
            unpacked.seek(0)
        with reader_errors(source.__str__):
            # Without transparent decompression: the stream is unpacked already, and a second layer
            # would be something unknown.
            archive = tarfile.open(fileobj=unpacked, mode="r:")  # noqa: SIM115 - closed below
        with archive:
            with reader_errors(source.__str__):
                members = ArchiveMembers(source, _archive_members(archive, source))
            yield members


def _archive_members(archive: tarfile.TarFile, source: Path) -> Iterator[ArchiveMember]:
    for number, info in enumerate(archive):
        if number == _MOST_MEMBERS:
            raise _not_published(f"holds more than {_MOST_MEMBERS} files", source)
        # Links and devices are passed over: following one would lead out of the archive.
        if info.isreg():
            yield ArchiveMember(
                PurePosixPath(info.name).name,
                f"{source}, member {info.name[-_MOST_NAME:]}",
                info.size,
                _archive_opener(archive, info),
            )


def _not_published(what: str, source: Path) -> DataError:
    return DataError(what, where=str(source), remedy="Fetch the published archive again")


def _archive_opener(archive: tarfile.TarFile, info: tarfile.TarInfo) -> Callable[[], IO[bytes]]:
    def open_stream() -> IO[bytes]:
        stream = archive.extractfile(info)
        if stream is None:
            raise tarfile.ReadError("not a regular file")
        return stream

    return open_stream


def _folder_members(source: Path) -> Iterator[ArchiveMember]:
    with reader_errors(source.__str__):
        # One level below too, for the folder around the one that the archive unpacks to.
        for path in sorted([*source.glob("*"), *source.glob("*/*")]):
            if path.is_file():
                yield ArchiveMember(path.name, str(path), path.stat().st_size, _folder_opener(path))


def _folder_opener(path: Path) -> Callable[[], IO[bytes]]:
    return lambda: open_source_file(path)
