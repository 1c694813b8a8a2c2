"""What it costs to check the numbers of every message, as a share of step time.

    mpiexec -n 4 python bench/check_cost.py jobs/digits.toml RUN --set training.epochs=30

The job is run with a clock around every check of what leaves a rank or arrives: finiteness and
magnitude of payloads, the history of magnitudes, sums of squared gradients, reports. Printed for
each rank: the checks, their time, the time of its steps and of its computing in them, the share,
and the largest magnitude in a message as a multiple of what it was compared with, which is to stay
far below `GROWTH_LIMIT`. The clock itself counts as checking, so shares are upper bounds.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from clicooper_hpc.cli import main as clicooper
from clicooper_hpc.owner import loop
from clicooper_hpc.runstore.reader import open_run
from clicooper_hpc.transport.growth_watch import GrowthWatch
from clicooper_hpc.transport.receiver import Receiver
from clicooper_hpc.transport.sender import Sender


class Clock:
    """Calls of the checks, the seconds in them, and the largest growth they saw."""

    def __init__(self) -> None:
        self.calls = 0
        self.spent_s = 0.0
        self.growth = 0.0

    def around(self, check: Callable[..., Any]) -> Callable[..., Any]:
        """Return ``check`` with the clock running."""

        def timed(*args: Any, **options: Any) -> Any:
            start = time.perf_counter()
            found = check(*args, **options)
            self.spent_s += time.perf_counter() - start
            self.calls += 1
            return found

        return timed

    def watching(self, note: Callable[..., Any]) -> Callable[..., Any]:
        """Return ``note`` with a look at how far it is from an alarm."""

        def noted(watch: Any, magnitude: float, step: int) -> Any:
            if magnitude and watch._count >= watch._half:
                self.growth = max(self.growth, magnitude / watch._largest)
            return note(watch, magnitude, step)

        return noted


def main() -> int:
    """Run the job on this rank with a clock, and print what it showed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("job", type=Path)
    parser.add_argument("run", type=Path)
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE")
    given = parser.parse_args()
    clock = Clock()
    places: list[tuple[Any, str]] = [
        (Receiver, "_check_numbers"),
        (Sender, "_check_finite"),
        (loop, "check_report"),
    ]
    for holder, name in places:
        setattr(holder, name, clock.around(getattr(holder, name)))
    watch: Any = GrowthWatch
    watch.note_magnitude = clock.watching(GrowthWatch.note_magnitude)
    settings = [word for one in given.set for word in ("--set", one)]
    code = clicooper(["run", str(given.job), "-o", str(given.run), "-q", *settings])
    if code == 0:
        report(clock, given.run)
    return code


def report(clock: Clock, path: Path) -> None:
    """Print one line of this rank."""
    mpi = sys.modules["mpi4py.MPI"]
    rank = mpi.COMM_WORLD.Get_rank()
    steps = open_run(path).table("steps", rank)
    whole_s = float(steps["step_s"].sum())
    print(
        f"rank {rank}: {clock.calls / len(steps):.1f} checks a step, "
        f"{1e6 * clock.spent_s / max(clock.calls, 1):.1f} us each, {len(steps)} steps of "
        f"{1e3 * whole_s / len(steps):.1f} ms, {1e3 * steps['compute_s'].mean():.1f} computing: "
        f"{100 * clock.spent_s / whole_s:.2f} % of step time; growth at most {clock.growth:.1f}",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
