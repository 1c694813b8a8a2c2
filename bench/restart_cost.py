"""What checkpoints cost, and how long a restart takes.

    python bench/restart_cost.py jobs/cifar10.toml --set training.epochs=2

The job is run, told to stop after a given number of seconds, and resumed to its end. Printed: the
size of a checkpoint, what trainers spent on saving as a share of their stages, and how long the
restart took until it trained again.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from clicooper_hpc.config.load_job import load_job
from clicooper_hpc.runstore.checkpoints import find_checkpoints
from clicooper_hpc.runstore.reader import open_run


def main() -> int:
    """Run, stop, resume, and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("job", type=Path)
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE")
    parser.add_argument("--stop-after", type=float, default=40.0, metavar="S")
    given = parser.parse_args()
    ranks = (load_job(given.job, given.set).wanted_segments() or 3) + 1
    launch = [str(Path(sys.executable).with_name("mpiexec")), "-n", str(ranks)]
    launch += [sys.executable, "-m", "clicooper_hpc"]
    settings = [word for one in given.set for word in ("--set", one)]
    with tempfile.TemporaryDirectory(prefix="clicooper-restart-") as name:
        run = Path(name) / "run"
        stop = threading.Timer(given.stop_after, (run / "STOP").touch)
        stop.start()
        command = [*launch, "run", str(given.job), "-o", str(run), "-q", *settings]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        stop.cancel()
        if done.returncode != 75:
            raise SystemExit(f"exit code {done.returncode} instead of 75:\n{done.stderr[-2000:]}")
        step = find_checkpoints(run)[0].step
        begun = time.time()
        command = [*launch, "resume", str(run)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        wall_s = time.time() - begun
        report(run, step, wall_s, done.stderr)
    return 0


def report(run: Path, step: int, wall_s: float, said: str) -> None:
    """Print what the tables and the restart itself printed."""
    opened = open_run(run)
    checkpoint = find_checkpoints(run)[0]
    size = sum(one.size for one in checkpoint.files.values())
    print(f"one checkpoint: {size / 2**20:.1f} MiB in {len(checkpoint.files)} files")
    for rank in opened.ranks[1:]:
        proving = opened.table("proving", rank)
        saving, stages = proving["state_s"].sum(), proving["stage_s"].sum()
        print(
            f"rank {rank}: {saving / len(proving):.3f} s a stage to save and digest, "
            f"{100 * saving / stages:.2f} % of the stages ({stages / len(proving):.1f} s each)"
        )
    found = re.search(r"continues after (\d+) of (\d+) steps, ready in ([\d.]+) s", said)
    if found is None:
        raise SystemExit(f"the restart did not say where it goes on:\n{said[-2000:]}")
    steps = opened.table("steps", 1)
    rest_s = steps.loc[step:, "step_s"].sum()
    print(
        f"resumed after step {found[1]} of {found[2]}: all ranks ready {found[3]} s after MPI had "
        f"started; the command took {wall_s:.1f} s, {rest_s:.1f} s of it in training steps"
    )


if __name__ == "__main__":
    sys.exit(main())
