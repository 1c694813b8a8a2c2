"""What a long command says: on a terminal (also a launcher's), in a log, before libraries load."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from mpirun import _launcher
from terminal_session import TerminalSession

from clicooper_hpc.errors import UsageError
from clicooper_hpc.progress import progress_line
from clicooper_hpc.progress.durations import duration_text
from clicooper_hpc.progress.progress_line import ProgressLine, pause_of_lines
from clicooper_hpc.progress.terminal import find_live_terminal

PROGRAM = Path(__file__).parent / "programs" / "counting.py"


@pytest.fixture(autouse=True)
def no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines, wherever the tests are started."""
    monkeypatch.setenv("CLICOOPER_PROGRESS", "lines")


@pytest.mark.mpi
def test_a_rank_draws_on_the_terminal_of_its_launcher(tmp_path: Path) -> None:
    stop = tmp_path / "stop"
    env = {"CLICOOPER_PROGRESS": "auto", "TERM": "xterm"}
    command = [_launcher(), "-n", "2", sys.executable, str(PROGRAM), str(stop)]
    with TerminalSession(command, env=env) as terminal:
        terminal.read_until("a line of the log\r\n")
        terminal.read_until("\x1b[K\rstep")
        stop.touch()
        assert terminal.wait() == 0
    drawn = [part.partition("\x1b[K")[0] for part in terminal.text.split("\r")]
    bars = [part for part in drawn if part.startswith("step ") and "/1,000 [" in part]
    assert bars
    assert max(map(len, bars)) < 80
    # The line of the log stands in a line of its own, and so does the last one.
    lines = terminal.text.split("\r\n")
    assert lines[0].rpartition("\x1b[K")[2].strip("\r") == "a line of the log"
    assert "of 1,000 (" in lines[1].rpartition("\x1b[K")[2]


@pytest.mark.mpi
def test_a_rank_whose_launcher_writes_into_a_file_draws_nothing(tmp_path: Path) -> None:
    stop, log = tmp_path / "stop", tmp_path / "log"
    env = {**os.environ, "CLICOOPER_PROGRESS": "auto", "OMP_NUM_THREADS": "1"}
    with log.open("wb") as file:
        process = subprocess.Popen(
            [_launcher(), "-n", "2", sys.executable, str(PROGRAM), str(stop)],
            stdin=subprocess.DEVNULL,
            stderr=file,
            env=env,
        )
        try:
            while b"step" not in log.read_bytes() and process.poll() is None:
                time.sleep(0.05)
            stop.touch()
            assert process.wait(60) == 0
        finally:
            process.kill()
    text = log.read_text()
    assert "\r" not in text
    assert "\x1b" not in text
    assert text.splitlines()[0] == "a line of the log"
    assert all(line.startswith("step ") for line in text.splitlines()[1:])


def test_a_log_gets_a_line_now_and_then_and_the_last_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress_line, "_PATIENCE_S", 0.0)
    monkeypatch.setattr(progress_line, "_LOOK_S", 0.01)
    monkeypatch.setattr(progress_line, "pause_of_lines", lambda _: 1e9)
    said: list[str] = []
    with ProgressLine("rows", 10, say=said.append) as progress:
        progress.note = ("\x1b[2J",)
        while not said:
            time.sleep(0.01)
        for _ in range(10):
            progress.advance()
            time.sleep(0.01)
    assert len(said) == 2
    assert said[1].startswith(r"rows 10 of 10 (100 %), \x1b[2J")


def test_what_is_done_at_once_says_nothing_and_quiet_never_does() -> None:
    said: list[str] = []
    with ProgressLine("rows", 10, say=said.append) as progress:
        progress.advance(10)
    with ProgressLine("rows", 10, say=said.append, quiet=True, first=True, last=True) as progress:
        progress.advance(10)
    assert said == []
    with ProgressLine("rows", 0, say=said.append, first=True, last=True):
        pass
    assert said == ["rows 0 of 0", "rows 0 of 0"]


def test_a_failure_has_no_last_line() -> None:
    said: list[str] = []
    with (
        pytest.raises(ZeroDivisionError),
        ProgressLine("rows", 10, say=said.append, last=True) as progress,
    ):
        progress.advance(1 // 0)
    assert said == []


def test_lines_become_rarer() -> None:
    assert pause_of_lines(0) == 5
    assert pause_of_lines(3600) == 72
    assert pause_of_lines(86400) == 300


def test_durations() -> None:
    texts = [duration_text(one) for one in (-1, 8.9, 185, 7800, 190000)]
    assert texts == ["0 s", "8 s", "3 min 05 s", "2 h 10 min", "2 d 04 h"]


def test_a_wrong_choice_names_the_variable() -> None:
    with pytest.raises(UsageError, match="CLICOOPER_PROGRESS"):
        find_live_terminal({"CLICOOPER_PROGRESS": "on"})


def test_the_first_line_comes_before_torch_is_loaded() -> None:
    code = "import sys; sys.modules['torch'] = None; from clicooper_hpc.cli import main; main()"
    launched = ("PMI", "OMPI_", "SLURM_")
    env = {name: value for name, value in os.environ.items() if not name.startswith(launched)}

    def said(*words: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", code, *words],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env=env,
        )
        assert "import of torch halted" in done.stderr
        assert done.stdout == ""
        return done.stderr.splitlines()[0]

    assert said("run", "job.toml") == "run job.toml: loading libraries"
    assert said("attack", "x") == "attack x: loading libraries"
    assert said("audit", "x", "--stage", "0", "--quiet").startswith("Traceback")
