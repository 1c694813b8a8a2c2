"""Run a small job with one hostile rank (`programs/hostile.py`), and see how every rank ends."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from mpirun import mpirun
from restarts import RESTART_JOB, struck

__all__ = ["JOB", "RANKS", "Ended", "begin_run", "hostile_run"]

PROGRAM = Path(__file__).with_name("programs") / "hostile.py"
RANKS = 3
#: Clipped, so that gradient norms travel; 12 steps in two stages; short deadlines.
JOB = (
    RESTART_JOB.replace("batch_size = 16", "batch_size = 16\nclip_norm = 1.0")
    .replace("epochs = 2", "epochs = 3")
    .replace("stages = 3", "stages = 2")
    .replace("micro_batches = 3", "micro_batches = 3\ntimeout_s = 12.0\nstartup_timeout_s = 40.0")
)
_LINE = re.compile(rf"clicooper: (\d)/{RANKS} (?:owner|trainer \d): (.*)")


@dataclass(frozen=True)
class Ended:
    """How a run ended.

    ``codes``: what each rank ended with itself, None if another rank ended it; ``lines``: who said
    what; ``peak_kb``: most memory of each rank.
    """

    done: subprocess.CompletedProcess[str]
    codes: tuple[int | None, ...]
    lines: tuple[tuple[int, str], ...]
    peak_kb: tuple[int, ...]


def begin_run(folder: Path) -> None:
    """Begin a run in ``folder/run`` and leave it behind the first stage."""
    (folder / "job.toml").write_text(JOB)
    struck(folder, RANKS, 1, "forward", 20)


def hostile_run(folder: Path, rank: int, lie: str, *, restart: bool = False) -> Ended:
    """Start the job in ``folder/run``, or what `begin_run` left there."""
    (folder / "job.toml").write_text(JOB)
    notes = folder / "notes"
    shutil.rmtree(notes, ignore_errors=True)
    notes.mkdir()
    words = ["resume", str(folder / "run"), "-q"]
    if not restart:
        words = ["run", str(folder / "job.toml"), "-o", str(folder / "run"), "-q"]
    args = [str(PROGRAM), str(notes), str(rank), lie, "--", *words]
    done = mpirun(RANKS, args, cwd=folder, timeout_s=150.0)
    places = [notes / f"{one}.code" for one in range(RANKS)]
    codes = tuple(int(place.read_text()) if place.is_file() else None for place in places)
    lines = tuple((int(one[1]), one[2]) for one in _LINE.finditer(done.stderr))
    peaks = [(notes / f"{one}.rss").read_text() for one in range(RANKS)]
    return Ended(done, codes, lines, tuple(int(peak or 0) for peak in peaks))
