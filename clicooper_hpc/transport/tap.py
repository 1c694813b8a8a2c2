"""`Tap`: keeps the exact bytes that leave a rank, to check the privacy claims against.

A tap writes two files per rank: ``rank-003.wire``, the messages as sent (header and payload, one
after the other), and ``rank-003.wire.csv``, one line per message: offset and length in the first
file, receiving rank, direction, tag.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator
from pathlib import Path

from clicooper_hpc.errors import RunFolderError
from clicooper_hpc.transport.header import HEADER_BYTES, Header, unpack_header
from clicooper_hpc.transport.message_kind import DIRECTIONS, Direction

__all__ = ["Tap", "read_tap"]

_COLUMNS = ("offset", "bytes", "peer", "direction", "tag")


def _tap_index_path(wire: Path) -> Path:
    return wire.with_name(wire.name + ".csv")


def _open_tap_file(path: Path) -> int:
    # What left the rank is no secret of the owner, but it is nobody else's business either.
    # O_APPEND: a restart writes on behind what the run sent before.
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)


class Tap:
    """Appends every message of one rank to ``<folder>/rank-NNN.wire``.

    Nothing is buffered in the process, so the files are whole up to the last message even if the
    job is killed. A second run appends.
    """

    def __init__(self, folder: Path, rank: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / f"rank-{rank:03d}.wire"
        self._wire = _open_tap_file(self.path)
        self._index = _open_tap_file(_tap_index_path(self.path))
        # Where a restart goes on: the index counts from the start of the file.
        self._offset = os.fstat(self._wire).st_size
        if os.fstat(self._index).st_size == 0:
            self._write_index_line(*_COLUMNS)

    def _write_index_line(self, *cells: object) -> None:
        os.write(self._index, (",".join(map(str, cells)) + "\n").encode("ascii"))

    def record_message(self, raw: memoryview, *, peer: int, direction: Direction, tag: int) -> None:
        """Append one message; the index line follows the bytes, so it never points beyond them."""
        rest = raw
        # A write to a file may be short on a full disk or after a signal.
        while rest:
            rest = rest[os.write(self._wire, rest) :]
        self._write_index_line(self._offset, len(raw), peer, direction, tag)
        self._offset += len(raw)

    def close(self) -> None:
        """Close both files."""
        os.close(self._wire)
        os.close(self._index)


def read_tap(path: Path) -> Iterator[tuple[Header, bytes, int]]:
    """Iterate over the messages in ``path`` (a ``.wire`` file) in the order they were sent.

    Yields
    ------
    tuple[Header, bytes, int]
        Header, payload and receiving rank of each message.

    Raises
    ------
    RunFolderError
        If the file or its index is missing, or they do not belong together.
    """
    try:
        with (
            path.open("rb") as wire,
            _tap_index_path(path).open(newline="", encoding="ascii") as index,
        ):
            for row in csv.DictReader(index):
                wire.seek(int(row["offset"]))
                raw = wire.read(int(row["bytes"]))
                direction = DIRECTIONS[DIRECTIONS.index(row["direction"])]
                if len(raw) != int(row["bytes"]):
                    raise ValueError("the wire file is shorter than its index says")
                payload = raw[HEADER_BYTES:]
                peer = int(row["peer"])
                header = unpack_header(
                    raw, capacity_bytes=len(payload), peer=peer, direction=direction
                )
                yield header, payload, peer
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunFolderError(
            f"cannot read this tap: {error}",
            where=str(path),
            remedy=f"Keep it together with {_tap_index_path(path).name}",
        ) from error
