"""Requests to stop: the file STOP, signals, and when they are followed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from clicooper_hpc.run.stop_requests import StopRequests
from clicooper_hpc.runstore.run_folder import RunFolder


@pytest.fixture
def stops() -> Iterator[StopRequests]:
    numbers = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
    before = {number: signal.getsignal(number) for number in numbers}
    yield StopRequests()
    for number, handler in before.items():
        signal.signal(number, handler)


def test_a_file_from_before_the_start_is_removed(stops: StopRequests, tmp_path: Path) -> None:
    stop = tmp_path / "STOP"
    stop.touch()
    os.utime(stop, (1e9, 1e9))
    stops.forget_last_stop(RunFolder(tmp_path))
    assert not stop.exists()
    stops.forget_last_stop(RunFolder(tmp_path))


def test_a_file_made_during_the_start_stays(stops: StopRequests, tmp_path: Path) -> None:
    """Starting takes seconds: a request of that time vanished, and the run went on."""
    stop = tmp_path / "STOP"
    stop.touch()
    ahead = stop.stat().st_mtime + 1.0
    os.utime(stop, (ahead, ahead))
    stops.forget_last_stop(RunFolder(tmp_path))
    assert stop.exists()


def test_a_start_that_is_asked_at_once_does_one_step(stops: StopRequests) -> None:
    """Asked in every start before its first step, a run would be started for ever."""
    os.kill(os.getpid(), signal.SIGUSR1)
    assert not stops.is_stop_requested()
    assert stops.is_stop_requested()
    assert stops.reason == "SIGUSR1"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2])
def test_a_rank_that_is_done_outlives_every_signal(number: signal.Signals) -> None:
    """Also while the interpreter ends, when handlers written in Python are gone already."""
    program = (
        "import os\n"
        "from clicooper_hpc.run.stop_requests import StopRequests\n"
        "class Late:\n"
        f"    def __del__(self, kill=os.kill, me=os.getpid()): kill(me, {int(number)})\n"
        "StopRequests().ignore_signals()\n"
        "os.late = Late()\n"
        f"os.kill(os.getpid(), {int(number)})\n"
        "raise SystemExit(75)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], timeout=60, check=False)
    assert done.returncode == 75
