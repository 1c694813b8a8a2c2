"""The file that asks a run to stop: one from before its start is removed, a new one is followed."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from clicooper_hpc.run.stop_requests import StopRequests


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
    stops.forget_stop_file(tmp_path)
    assert not stop.exists()
    stops.forget_stop_file(tmp_path)


def test_a_file_made_during_the_start_stays(stops: StopRequests, tmp_path: Path) -> None:
    """Starting takes seconds: a request of that time vanished, and the run went on."""
    stop = tmp_path / "STOP"
    stop.touch()
    ahead = stop.stat().st_mtime + 1.0
    os.utime(stop, (ahead, ahead))
    stops.forget_stop_file(tmp_path)
    assert stop.exists()
