from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import h5py
import pytest
import runstore_example as example

from clicooper_hpc.errors import RunFolderError
from clicooper_hpc.runstore.hdf5.superblock import (
    SUPERBLOCK_BYTES,
    closed_superblock,
    is_superblock_live,
    is_superblock_sound,
    superblock_checksum,
)
from clicooper_hpc.runstore.reader import open_run
from clicooper_hpc.runstore.run_folder import RunFolder

JOBS = Path(__file__).with_name("runstore_jobs.py")


@pytest.fixture
def killed(tmp_path: Path) -> RunFolder:
    """A run whose rank 1 was killed with at least 100 rows stored."""
    folder, writers = example.start_run(tmp_path / "run")
    for writer in writers:
        writer.close()
    folder.shard(1).unlink()
    command = [sys.executable, str(JOBS), "write_forever", str(folder.path), "20"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        while int(process.stdout.readline()) < 100:
            pass
        process.kill()
    return folder


def test_the_checksum_is_the_one_of_lookup3_and_of_hdf5(tmp_path: Path) -> None:
    # From lookup3.c, driver5.
    assert superblock_checksum(b"Four score and seven years ago") == 0x17770551
    path = tmp_path / "plain.h5"
    with h5py.File(path, "w", libver="v110") as file:
        file["x"] = 1
        assert is_superblock_live(path.read_bytes())
    head = path.read_bytes()[:SUPERBLOCK_BYTES]
    assert is_superblock_sound(head)
    assert not is_superblock_live(head)
    assert closed_superblock(head) == head
    assert not is_superblock_sound(head[:20] + bytes([head[20] ^ 1]) + head[21:])


def test_what_a_kill_left_is_marked_as_open_and_reads_all_the_same(killed: RunFolder) -> None:
    assert is_superblock_live(killed.shard(1).read_bytes())
    with pytest.raises(OSError, match="open"):
        h5py.File(killed.shard(1), "r")
    steps = open_run(killed.path).table("steps", rank=1)["step"].tolist()
    assert len(steps) >= 100
    assert steps == list(range(len(steps)))


@pytest.mark.timeout(60)
@pytest.mark.parametrize("damage", ["superblock", "header", "short", "shorter", "empty"])
def test_damage_in_what_a_kill_left_is_an_error_and_no_endless_wait(
    killed: RunFolder, damage: str
) -> None:
    """HDF5's reader of live files would double its pause a hundred times here."""
    path = killed.shard(1)
    content = bytearray(path.read_bytes())
    root = int.from_bytes(content[36:44], "little")
    if damage == "superblock":
        content[30] ^= 1
    elif damage == "header":
        content[root + 10] ^= 1
    else:
        content = content[: {"short": len(content) // 3, "shorter": 100, "empty": 0}[damage]]
    path.write_bytes(content)
    with pytest.raises(RunFolderError, match=r"rank-001\.h5: the file is damaged"):
        open_run(killed.path).table("steps", rank=1)
    assert "rank 1: UNREADABLE" in open_run(killed.path).summary()
