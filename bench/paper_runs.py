"""Runs and attacks, started as a user starts them; what is there already is not repeated."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from clicooper_hpc.attacks.harness.suite import SUITE
from clicooper_hpc.config.load_job import load_job
from clicooper_hpc.errors import RunFolderError, UsageError
from clicooper_hpc.runstore.attack_record import ATTACKS_FILE, read_attack_record
from clicooper_hpc.runstore.reader import Run, open_run

#: What Open MPI asks for in containers; other MPIs ignore it.
_ENVIRONMENT = {
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "OMPI_MCA_rmaps_base_oversubscribe": "1",
}

#: What starts ranks; srun of Slurm and the like may take its place.
LAUNCHER = "mpiexec -n {ranks}"


@dataclass(frozen=True, slots=True)
class Attacking:
    """How a run is attacked; see the options of `clicooper attack`."""

    parties: tuple[str, ...]
    public: Path | None
    only: tuple[str, ...] = ()
    seeds: int = 1
    scale: float = 1.0
    ranks: int = 2


@dataclass(frozen=True, slots=True)
class Planned:
    """One run, in a folder called ``name``, and perhaps the attacks on it."""

    name: str
    job: Path
    overrides: tuple[str, ...]
    attacking: Attacking | None = None
    ranks: int = 4

    def check(self) -> None:
        """Raise the `ClicooperError` that starting it would end in, before hours are spent."""
        load_job(self.job, self.overrides).check_ranks(self.ranks)


def run_command(planned: Planned, folder: Path, launcher: str = LAUNCHER) -> list[str]:
    """Return the command that makes the run, or goes on with it."""
    command = [*_launched(launcher, planned.ranks), "clicooper", "run", str(planned.job)]
    command += ["-o", str(folder / planned.name), "--quiet", "--resume"]
    for one in planned.overrides:
        command += ["--set", one]
    return command


def attack_command(attacking: Attacking, run: Path, launcher: str = LAUNCHER) -> list[str]:
    """Return the command that attacks a run."""
    command = [*_launched(launcher, attacking.ranks), "clicooper", "attack", str(run)]
    command += ["--party", *attacking.parties, "--seeds", str(attacking.seeds)]
    command += ["--only", *attacking.only] if attacking.only else []
    command += ["--public", str(attacking.public)] if attacking.public else []
    command += ["--scale", f"{attacking.scale:g}"] if attacking.scale != 1 else []
    return [*command, "--overwrite"]


def _launched(launcher: str, ranks: int) -> list[str]:
    return shlex.split(launcher.replace("{ranks}", str(ranks)))


def part_of(plan: Sequence[Planned], part: str) -> list[Planned]:
    """Return part I of N, given as ``I/N`` with I from 1: every N-th run."""
    number, _, whole = part.partition("/")
    if not 1 <= int(number) <= int(whole):
        raise UsageError(f"{part}: parts are 1/{whole} to {whole}/{whole}", where="--part")
    return list(plan[int(number) - 1 :: int(whole)])


def is_complete(planned: Planned, folder: Path) -> bool:
    """Whether the run is there, ended, and was made from the same settings."""
    run = _begun(planned, folder)
    return run is not None and run.status == "complete" and _is_same(planned, run)


def is_other(planned: Planned, folder: Path) -> bool:
    """Whether a run has begun in that place with other settings."""
    run = _begun(planned, folder)
    return run is not None and not _is_same(planned, run)


def _begun(planned: Planned, folder: Path) -> Run | None:
    try:
        return open_run(folder / planned.name)
    except RunFolderError:
        return None


def _is_same(planned: Planned, run: Run) -> bool:
    canonical = load_job(planned.job, planned.overrides).canonical()
    return bool(run.attrs["resolved_job"] == canonical)


def is_attacked(attacking: Attacking, run: Path) -> bool:
    """Whether findings are there, of this run and as strong as asked for."""
    try:
        about = read_attack_record(run / "private" / ATTACKS_FILE).attributes
        mine = open_run(run).attrs["run_id"]
    except RunFolderError:
        return False
    made = {*str(about["parties"]).split(", ")}
    names = set(str(about["attacks"]).split(", "))
    wanted = set(attacking.only) or {attack.name for attack in SUITE}
    return (
        about["run_id"] == mine
        and float(about["scale"]) == attacking.scale
        and int(about["seeds"]) >= attacking.seeds
        and set(attacking.parties) <= made
        and wanted <= names
    )


class Runner:
    """Carries out what is planned, several runs at a time.

    Parameters
    ----------
    folder
        Of the runs.
    processes
        Runs at a time.
    threads
        Of each rank, for the libraries that ask the environment.
    launcher
        What starts ranks; ``{ranks}`` stands for their number.
    log
        Name of a file in the folder with a line for every command: date, seconds, exit code.
        `logged` finds those that begin with ``log``.
    """

    def __init__(
        self,
        folder: Path,
        *,
        processes: int = 1,
        threads: int = 1,
        launcher: str = LAUNCHER,
        log: str = "log.jsonl",
    ) -> None:
        self.folder = folder
        self._launcher = launcher
        self._log = log
        self.failed: list[str] = []
        self._processes = processes
        self._threads = threads
        self._lock = threading.Lock()

    def carry_out(self, plan: Sequence[Planned]) -> None:
        """Make every run of the plan that is not there, and attack it; go on past failures."""
        for planned in plan:
            planned.check()
        self.folder.mkdir(parents=True, exist_ok=True)
        with ThreadPoolExecutor(self._processes) as pool:
            for done in [pool.submit(self._one, planned) for planned in plan]:
                done.result()

    def _one(self, planned: Planned) -> None:
        place = self.folder / planned.name
        if not is_complete(planned, self.folder):
            if is_other(planned, self.folder):
                self._move_away(place)
            if not self._start(
                planned.name, "run", run_command(planned, self.folder, self._launcher)
            ):
                return
        if planned.attacking is not None and not is_attacked(planned.attacking, place):
            command = attack_command(planned.attacking, place, self._launcher)
            self._start(planned.name, "attack", command)

    def _move_away(self, place: Path) -> None:
        """Keep what a run with other settings left."""
        old = self.folder / "old"
        old.mkdir(exist_ok=True)
        place.rename(old / f"{place.name}-{datetime.now(UTC):%Y%m%dT%H%M%S.%f}")

    def _start(self, name: str, step: str, command: list[str]) -> bool:
        text = shlex.join(command)
        began = time.monotonic()
        done = subprocess.run(
            _found(command),
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env={**_ENVIRONMENT, **os.environ, "OMP_NUM_THREADS": str(self._threads)},
        )
        seconds = time.monotonic() - began
        line = {
            "date": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
            "name": name,
            "step": step,
            "command": text,
            "seconds": round(seconds, 1),
            "at_a_time": self._processes,
            "code": done.returncode,
        }
        with self._lock:
            print(f"{seconds:7.1f} s  exit {done.returncode}  {text}", flush=True)
            with (self.folder / self._log).open("a") as log:
                log.write(json.dumps(line) + "\n")
            if done.returncode:
                self.failed.append(text)
                print("\n".join(done.stderr.strip().splitlines()[-5:]), file=sys.stderr, flush=True)
        return done.returncode == 0


def logged(folder: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """Return the last line of the logs for each run and step that ended well."""
    texts = [path.read_text() for path in sorted(folder.glob("log*.jsonl"))]
    lines = [json.loads(line) for text in texts for line in text.splitlines()]
    lines.sort(key=lambda line: str(line["date"]))
    return {(line["name"], line["step"]): line for line in lines if line["code"] == 0}


def _found(command: Sequence[str]) -> list[str]:
    """Take programs from beside this Python where they are there: an environment not activated."""
    here = Path(sys.executable).parent
    found = []
    for word in command:
        beside = here / word
        known = word in {"mpiexec", "clicooper"}
        found.append(
            (str(beside) if beside.exists() else shutil.which(word) or word) if known else word
        )
    return found
