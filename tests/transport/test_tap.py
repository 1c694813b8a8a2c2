"""The tap gives back byte for byte what was recorded, or says what is wrong."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from clicooper_hpc.errors import PeerError, RunFolderError
from clicooper_hpc.transport.header import Header, pack_header
from clicooper_hpc.transport.message_kind import Kind
from clicooper_hpc.transport.tap import Tap, read_tap
from clicooper_hpc.transport.wire_dtype import DType

FIRST = Header(Kind.RELEASE, DType.FLOAT32, (2, 2), step=0, micro_batch=0)
SECOND = Header(Kind.LABELS, DType.INT32, (3,), step=1, micro_batch=2)


def record(folder: Path) -> Path:
    tap = Tap(folder, 3)
    tap.record_message(
        memoryview(pack_header(FIRST) + bytes(range(16))), peer=1, direction="forward", tag=0
    )
    tap.close()
    again = Tap(folder, 3)
    again.record_message(
        memoryview(pack_header(SECOND) + b"abcdefghijkl"), peer=2, direction="control", tag=7
    )
    again.close()
    return again.path


def test_messages_come_back_over_several_runs(tmp_path: Path) -> None:
    path = record(tmp_path / "tap")
    assert path.name == "rank-003.wire"
    assert list(read_tap(path)) == [(FIRST, bytes(range(16)), 1), (SECOND, b"abcdefghijkl", 2)]


def test_wire_file_is_exactly_what_was_sent(tmp_path: Path) -> None:
    path = record(tmp_path)
    assert path.read_bytes() == (
        pack_header(FIRST) + bytes(range(16)) + pack_header(SECOND) + b"abcdefghijkl"
    )
    index = path.with_name("rank-003.wire.csv").read_text(encoding="ascii")
    assert index == "offset,bytes,peer,direction,tag\n0,80,1,forward,0\n80,76,2,control,7\n"


@pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX")
def test_only_the_user_can_read_it(tmp_path: Path) -> None:
    assert stat.S_IMODE(record(tmp_path).stat().st_mode) == 0o600


def test_bytes_without_an_index_line_are_left_alone(tmp_path: Path) -> None:
    path = record(tmp_path)
    with path.open("ab") as wire:  # killed between the two writes
        wire.write(b"half a message")
    assert len(list(read_tap(path))) == 2
    tap = Tap(tmp_path, 3)
    tap.record_message(
        memoryview(pack_header(FIRST) + bytes(16)), peer=1, direction="forward", tag=0
    )
    tap.close()
    assert [header for header, _, _ in read_tap(path)] == [FIRST, SECOND, FIRST]


def test_truncated_or_missing_files_are_named(tmp_path: Path) -> None:
    path = record(tmp_path)
    os.truncate(path, 100)
    with pytest.raises(RunFolderError, match=r"rank-003\.wire: .*shorter than its index says"):
        list(read_tap(path))
    with pytest.raises(RunFolderError, match=r"rank-009\.wire"):
        list(read_tap(tmp_path / "rank-009.wire"))


def test_damaged_message_is_told_with_its_field(tmp_path: Path) -> None:
    path = record(tmp_path)
    raw = bytearray(path.read_bytes())
    raw[5] = 200
    path.write_bytes(bytes(raw))
    with pytest.raises(PeerError, match="header field 'kind' is 200"):
        list(read_tap(path))
