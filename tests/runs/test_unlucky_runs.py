"""A hung rank, a full disk, a folder that turned read-only: said once, and nothing is lost."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from mpirun import mpirun
from restarts import RESTART_JOB, check_same, resume, struck
from slurm_cluster import until
from start import train

from clicooper_hpc.runstore.checkpoints import find_checkpoints
from clicooper_hpc.runstore.reader import open_run

pytestmark = pytest.mark.mpi

#: Checkpoints of half a megabyte. Marks follow from secret keys, so two runs would differ in them.
LARGE = RESTART_JOB.replace("widths = [16, 16]", "widths = [256, 256]") + 'marks = "off"\n'


def alive(folder: Path) -> list[str]:
    """Return what still runs with this folder in its command line."""
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        words = " ".join(process.info["cmdline"] or [])
        if str(folder) in words and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(words)
    return found


def test_a_hung_rank_is_named_with_step_and_micro_batch_and_all_end(tmp_path: Path) -> None:
    (tmp_path / "job.toml").write_text(RESTART_JOB)
    done = struck(tmp_path, 3, 2, "forward", 16, "pipeline.timeout_s=5.0", what="SIGSTOP")
    assert done.returncode == 1, done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("clicooper:")]
    assert len(lines) == 1, done.stderr
    assert re.search(r"rank 1 waited 7 s for .* rank 2 .*\((forward|backward|control)\)", lines[0])
    assert re.search(r"step [3-6], micro-batch \d", lines[0])
    # A process that was killed is gone a moment after its launcher.
    until("every rank is gone", lambda: not alive(tmp_path))
    assert find_checkpoints(tmp_path / "run")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of few megabytes."""
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("only root can mount a small file system")
    place = tmp_path / "disk"
    place.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=5m", "tmpfs", str(place)],
        capture_output=True,
        text=True,
        timeout=20,
    )
    if done.returncode:
        pytest.skip(f"no small file system can be mounted here: {done.stderr.strip()}")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=False, timeout=20)


def remount(place: Path, options: str) -> None:
    """Mount anew; ranks that were just ended may hold files open for a moment."""
    command = ["mount", "-o", f"remount,{options}", str(place)]
    for _ in range(40):
        if subprocess.run(command, capture_output=True, check=False, timeout=20).returncode == 0:
            return
        time.sleep(0.25)
    pytest.fail(f"cannot remount {place} as {options}")


@pytest.mark.matrix
def test_a_full_disk_costs_nothing_that_was_saved(small_disk: Path, tmp_path: Path) -> None:
    whole = train(tmp_path, 3, text=LARGE, name="whole")
    (tmp_path / "job.toml").write_text(LARGE)
    (small_disk / "job.toml").write_text(LARGE)
    run = small_disk / "run"
    filler = small_disk / "filler"
    # The first checkpoint fits; the second finds the disk full.
    filler.write_bytes(bytes(os.statvfs(small_disk).f_bavail * 4096 - 1_500_000))
    words = ["-m", "clicooper_hpc", "run", str(small_disk / "job.toml"), "-o", str(run), "-q"]
    done = mpirun(3, words, cwd=tmp_path)
    assert done.returncode == 5, done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("clicooper:")]
    assert len(lines) == 1, done.stderr
    assert "No space left on device" in lines[0]
    assert "Free space" in lines[0]
    assert [one.step for one in find_checkpoints(run)] == [2]
    assert open_run(run).status == "incomplete"

    remount(small_disk, "ro")
    done = resume(small_disk, 3)
    assert done.returncode == 5, done.stderr
    assert "cannot be written" in done.stderr
    assert "Traceback" not in done.stderr

    remount(small_disk, "rw")
    filler.unlink()
    remount(small_disk, "size=64m")
    done = resume(small_disk, 3)
    assert done.returncode == 0, done.stderr
    check_same(open_run(run), whole)
