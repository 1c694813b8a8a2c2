"""`clicooper watch`: running, finished, dead and foreign folders, by their files alone."""

from __future__ import annotations

import fcntl
import os
import shutil
import struct
import subprocess
import sys
import termios
import time
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import runstore_example as example
from report_example import written_run
from terminal_session import TerminalSession

from clicooper_hpc.cli import main
from clicooper_hpc.runstore.run_folder import create_run_folder, lock_run_folder
from clicooper_hpc.watch.frame import SILENCE_S, frame_lines
from clicooper_hpc.watch.run_reader import WatchedRun
from clicooper_hpc.watch.screen import watch_run
from clicooper_hpc.watch.snapshot import (
    LedgerEvent,
    PrivacySpent,
    RankActivity,
    RunSnapshot,
    stated_total_steps,
)

ENV = {"TERM": "xterm"}


def files_of(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {
        str(one.relative_to(folder)): (one.stat().st_mtime_ns, one.read_bytes())
        for one in sorted(folder.rglob("*"))
        if one.is_file()
    }


def frame(path: Path, *, later_s: float = 0.0, width: int = 80) -> list[str]:
    lines = frame_lines(
        "RUN", WatchedRun(path).read_snapshot(), now=time.time() + later_s, width=width
    )
    assert all(line.isprintable() and len(line) <= width for line in lines)
    return lines


def watch_once(path: Path, capfd: pytest.CaptureFixture[str]) -> list[str]:
    assert main(["watch", "--once", str(path)]) == 0
    return capfd.readouterr().out.splitlines()


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written_run(tmp_path_factory.mktemp("finished") / "run")


@pytest.fixture
def unfinished(finished: Path, tmp_path: Path) -> Path:
    """The same, as it was before its results."""
    run = shutil.copytree(finished, tmp_path / "unfinished")
    with h5py.File(run / "run.h5", "r+") as file:
        file.attrs["status"] = np.bytes_(b"incomplete")
    return run


def test_a_run_is_followed_while_it_is_written(tmp_path: Path) -> None:
    folder, writers = example.start_run(tmp_path / "run")
    watched = WatchedRun(folder.path)
    assert watched.read_snapshot().done_steps == 0
    seen = []
    for step in range(3):
        for rank, writer in enumerate(writers):
            example.write_steps(writer, rank, range(step, step + 1))
            writer.flush()
        seen.append(watched.read_snapshot().done_steps)
    assert seen == [1, 2, 3]
    example.write_owner_events(writers[0])
    writers[0].flush()
    lines = frame(folder.path)
    assert lines[0].split() == ["RUN", "running"]
    assert lines[1].startswith("step 3, epoch 1 of 2, ")
    assert "loss " in lines[2]
    assert "accuracy on clean held-out samples 75.00 %, after epoch 1" in lines
    assert "privacy spent: epsilon 8, delta 1e-05 a sample; 32 released" in lines
    assert [line.split()[1] for line in lines[6:9]] == ["owner", "trainer", "trainer"]
    assert lines[-1].startswith("last change ")
    for writer in writers:
        writer.close()


def test_reading_leaves_no_trace_and_takes_no_lock(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder, writers = example.start_run(tmp_path / "run")
    before = files_of(folder.path)
    watch_once(folder.path, capfd)
    assert files_of(folder.path) == before
    # A lock that the reader held would be in the way of this.
    lock_run_folder(folder)
    watch_once(folder.path, capfd)
    for writer in writers:
        writer.close()


def test_a_finished_run(finished: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run = finished
    lines = watch_once(run, capfd)
    assert lines[0].endswith("  complete")
    assert any("epsilon 8 of 2, " in line for line in lines)
    # Also without --once, and by its file: nothing will follow.
    assert main(["watch", str(run / "run.h5")]) == 0
    assert capfd.readouterr().out.splitlines()[1:-1] == lines[1:-1]


def test_a_run_that_says_nothing_any_more(unfinished: Path) -> None:
    run = unfinished
    assert frame(run, later_s=SILENCE_S - 60)[0].endswith("  running")
    lines = frame(run, later_s=SILENCE_S + 60)
    assert "NO CHANGE FOR 6 min 0" in lines[0]
    assert lines[0].endswith("may be dead")
    assert "clicooper resume" in lines[-1]


def test_damaged_and_missing_files_are_named_and_the_others_shown(unfinished: Path) -> None:
    run = unfinished
    (run / "rank-001.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(4096))
    (run / "rank-002.h5").unlink()
    lines = frame(run)
    assert "UNREADABLE (the file is damaged or not HDF5" in lines[-3]
    assert "UNREADABLE (the file is missing)" in lines[-2]
    assert lines[1].startswith("step 8 of 8, ")


def test_a_run_that_starts_and_what_is_no_run(
    tmp_path: Path, finished: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    starting = create_run_folder(tmp_path / "starting")
    lock_run_folder(starting)
    first, second, _ = watch_once(starting.path, capfd)
    assert first.split()[-1] == "starting"
    assert second == "nothing has left the owner yet"
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "run.h5").write_text("no HDF5")
    shutil.copyfile(finished / "rank-001.h5", tmp_path / "shard.h5")
    shutil.copytree(finished, tmp_path / "lost")
    (tmp_path / "lost" / "run.h5").unlink()
    for wrong in ("none", "foreign", "shard.h5", "lost"):
        assert main(["watch", "--once", str(tmp_path / wrong)]) == 2
        out, err = capfd.readouterr()
        assert out == ""
        assert len(err.splitlines()) == 1
    for every in ("0", "nan", "1e9"):
        assert main(["watch", str(finished), "--every", every]) == 2


def test_a_folder_that_is_not_there_yet_is_waited_for(
    tmp_path: Path, finished: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    late = tmp_path / "late"

    def arrive(_: float) -> None:
        shutil.copytree(finished, late, dirs_exist_ok=True)

    watch_run(late, once=False, every_s=0.2, sleep=arrive)
    waiting, _, arrived, *_ = capfd.readouterr().out.splitlines()
    assert waiting == f"{late}: not there yet"
    assert arrived.endswith("  complete")


def snapshot(ranks: int | tuple[RankActivity, ...] = 3, **changes: object) -> RunSnapshot:
    if isinstance(ranks, int):
        known = RankActivity(0, "node" * 20, steps=10**9, epoch=3, busy=1.0, step_s=0.5, samples=64)
        ranks = tuple(replace(known, rank=one) for one in range(ranks))
    values: dict[str, object] = {
        "status": "incomplete",
        "changed": 0.0,
        "ranks": ranks,
        "total_steps": 2 * 10**9,
        "spent": PrivacySpent(8.0, 1e-5, 10**9),
        "private": True,
        "promised": 8.0,
        "entries": 50,
        "events": tuple(LedgerEvent(one, f"proof of stage {one}, segment 3") for one in range(4)),
    }
    return RunSnapshot(**{**values, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize("rows", [1, 5, 23])
@pytest.mark.parametrize("width", [1, 2, 3, 19, 29, 38, 39, 40, 79, 80, 200])
def test_frames_keep_to_their_width_and_height(width: int, rows: int) -> None:
    hostile = RankActivity(600, "\x1b[2J\u202e", fault="\x1b]0;\n")
    ranks = (*snapshot(ranks=600).ranks, hostile)
    lines = frame_lines("a/b\n" * 50, snapshot(ranks=ranks), now=10.0, width=width, rows=rows)
    assert len(lines) == rows or (width == 200 and len(lines) < rows)
    assert all(line.isprintable() and 0 < len(line) <= width for line in lines)
    if rows == 23 and width >= 38:
        assert any(line.endswith(" more ranks ...") for line in lines)


@pytest.mark.parametrize("width", range(15, 81))
def test_no_number_of_a_frame_lacks_its_end(width: int) -> None:
    usual = frame_lines("RUN", snapshot(), now=10.0, width=80)
    numbers = {part for line in usual for part in line.split() if any(map(str.isdigit, part))}
    lines = frame_lines("RUN", snapshot(), now=10.0, width=width)
    cut = {part for line in lines for part in line.split() if any(map(str.isdigit, part))}
    assert {one for one in cut - numbers if "node" not in one} == set()


def test_time_left_newest_entries_and_no_privacy() -> None:
    ten = RankActivity(0, "node", steps=10, epoch=3, step_s=0.5, samples=64)
    lines = frame_lines("RUN", snapshot((ten,), total_steps=3610), now=10.0)
    # Steps of half a second.
    assert lines[1].endswith(", about 30 min 00 s left")
    assert lines[-2].startswith("ledger, 50 entries (not verified): proof of stage 3, segment 3")
    assert "NO PRIVACY" in frame_lines("RUN", snapshot(private=False), now=10.0)


@pytest.mark.parametrize(
    "envelope", [b"", b"{", b"[" * 5000, b'{"payload":"!"}', b'{"payload":"e30="}', b"\xff"]
)
def test_an_envelope_that_says_nothing(envelope: bytes) -> None:
    assert stated_total_steps({"entry": [0], "envelope": [envelope]}) is None


def test_on_a_terminal_frames_replace_each_other_and_ctrl_c_leaves_the_last(
    unfinished: Path,
) -> None:
    run = unfinished
    command = [sys.executable, "-m", "clicooper_hpc", "watch", str(run), "--every", "0.2"]
    with TerminalSession(command, env=ENV) as terminal:
        terminal.read_until("A\r")
        terminal.type("\x03")
        assert terminal.wait() == 0
    frames = terminal.text.split("\x1b[J")
    height = frames[0].count("\n")
    assert frames[1].startswith(f"\x1b[{height}A\r")
    # The prompt of the shell comes below the ^C that the terminal shows.
    assert terminal.text.endswith("^C\r\n\x1b[J")
    # Neither another screen nor a hidden cursor or a mode that would have to be taken back.
    assert "\x1b[?" not in terminal.text
    assert "Traceback" not in terminal.text


def frames_on_terminal(
    run: Path, sizes: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> list[str]:
    """Return a frame for each of ``sizes`` (lines, columns), as written to a terminal."""
    master, terminal = os.openpty()
    left = iter([*sizes[1:], None])
    seen: list[str] = []

    def resize(size: tuple[int, int]) -> None:
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", *size, 0, 0))

    def sleep(_: float) -> None:
        text = ""
        while not text.endswith("\x1b[J"):
            text += os.read(master, 65536).decode()
        seen.append(text.removesuffix("\x1b[J"))
        size = next(left)
        if size is None:
            raise KeyboardInterrupt
        resize(size)

    resize(sizes[0])
    with os.fdopen(terminal, "w") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        with pytest.raises(KeyboardInterrupt):
            watch_run(run, once=False, every_s=0.2, sleep=sleep)
    os.close(master)
    return seen


@pytest.mark.parametrize(
    ("size", "env", "columns", "rows"),
    [
        ((24, 20), {}, 20, 24),
        ((24, 30), {}, 30, 24),
        ((10, 39), {}, 39, 10),
        # Serial lines and some containers: not known.
        ((0, 0), {}, 80, 24),
        ((0, 0), {"COLUMNS": "33", "LINES": "8"}, 33, 8),
        # What is known counts, not what a shell said before the window was resized.
        ((24, 30), {"COLUMNS": "132"}, 30, 24),
    ],
)
def test_no_line_is_wrapped_on_narrow_terminals(
    unfinished: Path,
    monkeypatch: pytest.MonkeyPatch,
    size: tuple[int, int],
    env: dict[str, str],
    columns: int,
    rows: int,
) -> None:
    for name in ("COLUMNS", "LINES"):
        monkeypatch.delenv(name, raising=False)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    first, second = frames_on_terminal(unfinished, [size, size], monkeypatch)
    widths = [len(line.removesuffix("\x1b[K")) for line in first.split("\r\n")]
    # Nothing is given away either: the bar is as long as a line.
    assert max(widths) == columns - 1
    height = first.count("\r\n")
    assert height < rows
    assert second.removeprefix(f"\x1b[{height}A\r").startswith(first.split("\r\n")[0])


def test_after_a_resize_a_frame_is_not_drawn_over_what_the_last_may_have_become(
    unfinished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = [(24, 80), (24, 80), (24, 30), (24, 30)]
    _, over, below, over_again = frames_on_terminal(unfinished, sizes, monkeypatch)
    assert [one.startswith("\x1b[") for one in (over, below, over_again)] == [True, False, True]


def run_alone(code: str, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *words],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=dict(os.environ),
    )


def test_neither_torch_nor_mpi_is_loaded(finished: Path) -> None:
    run = finished
    names = ("torch", "mpi4py", "pandas", "xarray", "matplotlib")
    code = (
        f"import sys; [sys.modules.__setitem__(one, None) for one in {names!r}];"
        "from clicooper_hpc.cli import main; sys.exit(main())"
    )
    done = run_alone(code, "watch", "--once", str(run))
    assert done.returncode == 0, done.stderr
    assert "complete" in done.stdout
