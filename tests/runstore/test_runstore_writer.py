from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import runstore_example as example

from clicooper_hpc.errors import EnvironmentUnfitError, RunFolderError
from clicooper_hpc.runstore.index import RunResult
from clicooper_hpc.runstore.index_end import finish_index
from clicooper_hpc.runstore.reader import open_run
from clicooper_hpc.runstore.run_folder import RunFolder
from clicooper_hpc.runstore.tables.shard_writer import ShardWriter, compact_shard
from clicooper_hpc.runstore.tables.storage import write_stored_rows

JOBS = Path(__file__).with_name("runstore_jobs.py")


def shard(path: Path, **options: Any) -> ShardWriter:
    tables = example.tables_by_rank()[1]
    return ShardWriter(path, tables, example.shard_attributes(1), **options)


def steps_in(path: Path) -> list[int]:
    with h5py.File(path, "r", swmr=True) as file:
        done = file["steps/complete"][:] == 1
        return [int(step) for step in file["steps/step"][: len(done)][done]]


def assert_rows_right(folder: RunFolder, at_least: int) -> None:
    steps = open_run(folder.path).table("steps", 1)
    count = len(steps)
    assert count >= at_least
    assert steps["step"].tolist() == list(range(count))
    assert np.allclose(steps["step_s"], [example.step_row(1, i)["step_s"] for i in range(count)])
    assert (steps["bytes_sent_forward"] == 1000 + np.arange(count)).all()


@pytest.mark.parametrize("flush_rows", [1, 7, 50])
def test_a_killed_writer_leaves_every_flushed_row(tmp_path: Path, flush_rows: int) -> None:
    folder, writers = example.start_run(tmp_path / "run")
    for writer in writers:
        writer.close()
    folder.shard(1).unlink()
    command = [sys.executable, str(JOBS), "write_forever", str(folder.path), str(flush_rows)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for _ in range(120):
            stored = int(process.stdout.readline())
        process.send_signal(signal.SIGKILL)
        stored = max([stored, *map(int, process.stdout.read().splitlines())])
    assert stored > 0
    assert_rows_right(folder, stored)
    # Any program can have it as an ordinary file again, with the same rows.
    before = steps_in(folder.shard(1))
    compact_shard(folder.shard(1))
    with h5py.File(folder.shard(1), "r") as file:
        assert file["steps/step"][:].tolist() == before
        assert (file["steps/complete"][:] == 1).all()


def test_a_run_is_read_while_it_is_written(tmp_path: Path) -> None:
    folder, writers = example.start_run(tmp_path / "run")
    for writer in writers:
        writer.close()
    folder.shard(1).unlink()
    command = [sys.executable, str(JOBS), "write_forever", str(folder.path), "2"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for _ in range(40):
            stored = int(process.stdout.readline())
            assert_rows_right(folder, stored)
        assert open_run(folder.path).status == "incomplete"
        process.kill()


def test_bare_h5py_reads_a_live_shard_and_the_index_over_it(tmp_path: Path) -> None:
    folder, writers = example.start_run(tmp_path / "run")
    example.write_steps(writers[1], 1, range(5))
    writers[1].flush()
    look = (
        "import h5py, sys\n"
        "shard = h5py.File(sys.argv[1] + '/rank-001.h5', 'r', swmr=True)\n"
        "index = h5py.File(sys.argv[1] + '/run.h5', 'r', swmr=True)\n"
        "print(shard['steps/step'][:].tolist(), index['metrics/rows'][:, 1].tolist(),\n"
        "      index['ranks/001/training/loss'].shape)\n"
    )
    command = [sys.executable, "-c", look, str(folder.path)]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert out.split("\n")[0] == "[0, 1, 2, 3, 4] [32, 32, 32, 32, 32] (5,)"
    for writer in writers:
        writer.close()


def test_rows_wait_for_the_count_the_clock_or_a_flush(tmp_path: Path) -> None:
    now = [0.0]
    path = tmp_path / "rank-001.h5"
    tables = example.tables_by_rank()[1]
    attrs = example.shard_attributes(1)
    with ShardWriter(
        path, tables, attrs, flush_rows=4, flush_seconds=9.0, clock=lambda: now[0]
    ) as w:
        w.append("steps", example.step_row(1, 0))
        assert w.rows_written["steps"] == 0
        w.flush()
        assert w.rows_written["steps"] == 1
        example.write_steps(w, 1, range(1, 3))
        assert (w.rows_written["steps"], w.rows_written["training"]) == (3, 2)
        w.append("steps", example.step_row(1, 3))
        assert w.rows_written["steps"] == 3
        now[0] = 9.5
        w.append("steps", example.step_row(1, 4))
        assert w.rows_written["steps"] == 5
    assert steps_in(path) == [0, 1, 2, 3, 4]


def test_the_marker_is_stored_after_all_other_columns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = shard(tmp_path / "rank-001.h5")
    order: list[str] = []

    def record(columns: Any, start: int, rows: Any) -> None:
        order.extend(rows)
        write_stored_rows(columns, start, rows)

    monkeypatch.setattr("clicooper_hpc.runstore.tables.shard_writer.write_stored_rows", record)
    writer.append("training", example.step_row(1, 0, "training"))
    writer.flush()
    assert order[-1] == "complete"
    assert order.count("complete") == 1
    writer.close()


def test_a_closed_shard_is_small_whole_and_opens_anywhere(tmp_path: Path) -> None:
    path = tmp_path / "rank-001.h5"
    writer = shard(path, flush_rows=2)
    example.write_steps(writer, 1, range(300))
    writer.flush()
    live = path.stat().st_size
    writer.close()
    assert path.stat().st_size < live / 2
    with h5py.File(path, "r") as file:
        assert file["steps/step"][:].tolist() == list(range(300))
        assert file.attrs["run_id"].decode() == example.RUN_ID
        assert file["training/loss"].fletcher32
        assert file["training/loss"].dims[0][0].name == "/training/step"
    assert [item.name for item in tmp_path.iterdir()] == ["rank-001.h5"]


def test_a_shard_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "rank-001.h5"
    shard(path).close()
    content = path.read_bytes()
    with pytest.raises(RunFolderError, match="never overwritten"):
        shard(path)
    assert path.read_bytes() == content


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentUnfitError, match=r"gone/rank-001.h5.*No such file"):
        shard(tmp_path / "gone" / "rank-001.h5")


def test_a_closed_writer_takes_nothing_more(tmp_path: Path) -> None:
    writer = shard(tmp_path / "rank-001.h5")
    writer.close()
    writer.close()
    with pytest.raises(ValueError, match="closed"):
        writer.append("steps", example.step_row(1, 0))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(disk)]
    try:
        done = subprocess.run(mount, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("no mount command: a full disk cannot be made")
    if done.returncode:
        pytest.skip(f"a small disk cannot be mounted: {done.stderr.strip()}")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.parametrize("ending", ["exit", "return"])
def test_a_full_disk_ends_with_one_line_and_keeps_what_was_flushed(
    small_disk: Path, ending: str
) -> None:
    folder, writers = example.start_run(small_disk / "run")
    for writer in writers:
        writer.close()
    folder.shard(1).unlink()
    done = subprocess.run(
        [sys.executable, str(JOBS), "fill_disk", str(folder.path), ending],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    assert done.returncode == (5 if ending == "exit" else 0)
    stored, line, *again = done.stdout.splitlines()
    assert line.startswith(f"{folder.shard(1)}: writing failed (No space left on device)")
    assert "Free space" in line
    assert again == ([] if ending == "exit" else [line])
    assert_rows_right(folder, int(stored))
    # A disk still full at the end of the run: the index stays as it was, and says so.
    before = folder.index.read_bytes()
    big = {"text": RunResult("x" * 700_000, "text", "Too long for the disk")}
    with pytest.raises(EnvironmentUnfitError, match="No space left"):
        finish_index(folder.index, results=big)
    assert folder.index.read_bytes() == before
    assert open_run(folder.path).status == "incomplete"


def test_closing_on_a_full_disk_keeps_the_shard_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "rank-001.h5"
    writer = shard(path)
    example.write_steps(writer, 1, range(5))

    def refuse(path: Path) -> None:
        raise EnvironmentUnfitError("no space", where=str(path))

    monkeypatch.setattr("clicooper_hpc.runstore.tables.shard_writer.compact_shard", refuse)
    writer.close()
    assert "no space" in caplog.text
    assert steps_in(path) == [0, 1, 2, 3, 4]
