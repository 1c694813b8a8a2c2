"""Run and kill in a loop: does anything get lost?

    make soak SOAK_ARGS="--minutes 10"
    make soak SOAK_ARGS="--kills 50 --seed 1"

A run is started, and one rank, drawn by chance, is killed with SIGKILL at a moment drawn by chance;
then the run is resumed and killed again, until it reaches its end. After every kill each HDF5 file
must open, each whole checkpoint must have the digests of its index. Each finished run must be the
one that was never killed: weights to the bit, every stage proved once and verified, every sample
charged and released once.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import psutil
from restarts import RESTART_JOB, check_same

from clicooper_hpc.errors import RunFolderError
from clicooper_hpc.runstore.checkpoints import find_checkpoints, read_checkpoint_file
from clicooper_hpc.runstore.reader import open_run

#: Some seconds of training, three stages, an evaluation in every tenth epoch.
JOB = (
    RESTART_JOB.replace("epochs = 2", "epochs = 60").replace(
        "evaluate_every_epochs = 1", "evaluate_every_epochs = 10"
    )
    + "[checkpoint]\nevery_steps = 25\n"
)
ENVIRONMENT = {
    **os.environ,
    "OMP_NUM_THREADS": "1",
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "OMPI_MCA_rmaps_base_oversubscribe": "1",
}


def start(ranks: int, verb: list[str], log: Path) -> subprocess.Popen[bytes]:
    """Start clicooper on ``ranks`` ranks."""
    beside = Path(sys.executable).with_name("mpiexec")
    launcher = str(beside) if beside.exists() else "mpiexec"
    command = [launcher, "-n", str(ranks), sys.executable, "-m", "clicooper_hpc", *verb, "-q"]
    with log.open("ab") as output:
        return subprocess.Popen(
            command, stdout=output, stderr=output, env=ENVIRONMENT, start_new_session=True
        )


def ranks_of(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """Return the ranks that run now."""
    try:
        children = psutil.Process(process.pid).children(recursive=True)
        return [one for one in children if "clicooper_hpc" in " ".join(one.cmdline())]
    except psutil.Error:
        return []


def kill_one(process: subprocess.Popen[bytes], after_s: float, chance: random.Random) -> bool:
    """Kill a rank after so many seconds; whether there was one left."""
    try:
        process.wait(after_s)
        return False
    except subprocess.TimeoutExpired:
        pass
    found = ranks_of(process)
    if not found:
        return False
    try:
        chance.choice(found).send_signal(signal.SIGKILL)
    except psutil.NoSuchProcess:
        return False
    return True


def look(run: Path) -> int | None:
    """Check all that a kill has left; return the steps of the newest checkpoint."""
    for checkpoint in (found := find_checkpoints(run)):
        for name in checkpoint.files:
            read_checkpoint_file(checkpoint, name)
    if (run / "run.h5").exists():
        opened = open_run(run)
        for rank in opened.ranks:
            if rank not in opened.missing_ranks:
                opened.stored_rows(rank)
    return found[0].step if found else None


def start_and_kill(
    folder: Path, ranks: int, life_s: float, chance: random.Random, kills: Counter[str]
) -> None:
    """Kill ``folder/run`` over and over until it reaches its end.

    ``life_s``: about how long a whole run takes.
    """
    run, log = folder / "run", folder / "log"
    while True:
        begun = (run / "run.h5").exists()
        if not begun and run.exists():
            shutil.rmtree(run)  # killed before anything left
        verb = ["resume", str(run)]
        if not begun:
            verb = ["run", str(folder / "job.toml"), "-o", str(run)]
        process = start(ranks, verb, log)
        killed = kill_one(process, chance.uniform(0.2, 1.0) * life_s, chance)
        code = process.wait(180)
        if killed:
            saved = look(run)
            when = "not saved yet" if saved is None else f"behind step {saved // 50 * 50}"
            kills[when if begun or saved is not None else "at the start"] += 1
            continue
        if code:
            raise SystemExit(f"exit code {code} without a kill:\n{log.read_text()[-3000:]}")
        return


def main() -> int:
    """Soak, and say what came of it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=None, metavar="M")
    parser.add_argument("--kills", type=int, default=None, metavar="N", help="at least so many")
    parser.add_argument("--ranks", type=int, default=4, metavar="N")
    parser.add_argument("--seed", type=int, default=0, metavar="S")
    given = parser.parse_args()
    chance, kills, runs = random.Random(given.seed), Counter[str](), 0
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="clicooper-soak-") as name:
        folder = Path(name)
        (folder / "job.toml").write_text(JOB)
        first = time.monotonic()
        verb = ["run", str(folder / "job.toml"), "-o", str(folder / "whole")]
        if start(given.ranks, verb, folder / "log").wait(300):
            raise SystemExit((folder / "log").read_text()[-3000:])
        life_s = time.monotonic() - first
        whole = open_run(folder / "whole")
        while (
            kills.total() < given.kills
            if given.kills is not None
            else time.monotonic() - begun < 60 * (given.minutes or 5.0)
        ):
            start_and_kill(folder, given.ranks, life_s, chance, kills)
            check_same(open_run(folder / "run"), whole)
            runs += 1
            print(f"{kills.total():4} kills, {runs} runs to the end", flush=True)
            shutil.rmtree(folder / "run")
    print(f"{kills.total()} kills, {runs} runs, each the one that was never killed; killed:")
    for when, count in sorted(kills.items()):
        print(f"  {count:4} {when}")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except RunFolderError as error:
        raise SystemExit(f"a file was lost: {error.line()}") from None
