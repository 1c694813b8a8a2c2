"""What it costs to check the numbers of every message, as a share of step time.

    mpiexec -n 4 python bench/check_cost.py jobs/digits.toml RUN --set training.epochs=60

The job is run with a clock around every check of what leaves a rank or arrives: finiteness and
magnitude of payloads, the history of magnitudes, reports. Printed for each rank, as medians over
its steps without the first ones: checks in a step, processor time of one, and the share of a step
(from one stop token to the next) in its processor time and on the wall, waiting included; once more
for the tenth of steps of least processor time, which other work disturbed least. Processor time is
that of the thread: other work adds nothing to it but cold caches, of which a check pays those of
its payload that the step would pay next. The clock itself counts as checking, so all are upper
bounds; what it takes for nothing is printed too.

Last, the largest magnitude in a message as a multiple of what it was compared with, which is to
stay far below `GROWTH_LIMIT`.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

from clicooper_hpc.cli import main as clicooper
from clicooper_hpc.owner import loop
from clicooper_hpc.training.stop_token import StopToken
from clicooper_hpc.transport.growth_watch import GROWTH_LIMIT, GrowthWatch
from clicooper_hpc.transport.receiver import Receiver
from clicooper_hpc.transport.sender import Sender


@dataclass(slots=True)
class Spent:
    """Checks so far, and the seconds in them and altogether, on the wall and of the processor."""

    checks: int
    check_wall_s: float
    check_cpu_s: float
    wall_s: float
    cpu_s: float

    def since(self, before: Spent) -> Spent:
        """Return what was spent after ``before``."""
        return Spent(
            self.checks - before.checks,
            self.check_wall_s - before.check_wall_s,
            self.check_cpu_s - before.check_cpu_s,
            self.wall_s - before.wall_s,
            self.cpu_s - before.cpu_s,
        )


class Clock:
    """Time in checks and in steps, and the largest growth the checks saw."""

    def __init__(self) -> None:
        self.checks = 0
        self.wall_s = 0.0
        self.cpu_s = 0.0
        self.growth = 0.0
        #: State of the clock at the beginning of every step.
        self.begun: list[Spent] = []

    def around(self, check: Callable[..., Any]) -> Callable[..., Any]:
        """Return ``check`` with the clock running."""

        def timed(*args: Any, **options: Any) -> Any:
            # Twice: the first call of a clock after other work is slow, and no part of the check.
            time.thread_time()
            wall, cpu = time.perf_counter(), time.thread_time()
            found = check(*args, **options)
            self.cpu_s += time.thread_time() - cpu
            self.wall_s += time.perf_counter() - wall
            self.checks += 1
            return found

        return timed

    def beginning(self, begin: Callable[..., Any]) -> Callable[..., Any]:
        """Return ``begin``, which every rank calls once before each step, with a note of it."""

        def begun(*args: Any, **options: Any) -> Any:
            self.begun.append(
                Spent(
                    self.checks,
                    self.wall_s,
                    self.cpu_s,
                    time.perf_counter(),
                    time.thread_time(),
                )
            )
            return begin(*args, **options)

        return begun

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
    parser.add_argument("--skip", type=int, default=10, help="first steps left out (default 10)")
    given = parser.parse_args()
    clock = Clock()
    places: list[tuple[Any, str]] = [
        (Receiver, "_check_numbers"),
        (Sender, "_check_finite"),
        (loop, "check_report"),
    ]
    for holder, name in places:
        setattr(holder, name, clock.around(getattr(holder, name)))
    token: Any = StopToken
    token.pass_stop_token = clock.beginning(StopToken.pass_stop_token)
    watch: Any = GrowthWatch
    watch.note_magnitude = clock.watching(GrowthWatch.note_magnitude)
    settings = [word for one in given.set for word in ("--set", one)]
    code = clicooper(["run", str(given.job), "-o", str(given.run), "-q", *settings])
    if code == 0:
        rank = sys.modules["mpi4py.MPI"].COMM_WORLD.Get_rank()
        print(f"rank {rank}: {cost_text(clock, given.skip)}", flush=True)
    return code


def cost_text(clock: Clock, skip: int) -> str:
    """Say what the checks of one rank cost, in medians over steps, and what growth they saw."""
    begun = clock.begun[skip:]
    steps = [after.since(before) for before, after in pairwise(begun)]
    if not steps:
        return f"only {len(clock.begun)} steps"
    steps.sort(key=lambda step: step.cpu_s)
    quiet = steps[: max(1, len(steps) // 10)]
    empty = Clock()
    nothing = empty.around(lambda: None)
    for _ in range(1000):
        nothing()
    return (
        f"{len(steps)} steps, {median(step.checks for step in steps):g} checks a step; "
        f"{_shares(steps)}; the tenth of least processor time: {_shares(quiet)}; "
        f"the clock for nothing {1e6 * empty.cpu_s / 1000:.2f} us; growth at most "
        f"{clock.growth:.1f}, warned of {GROWTH_LIMIT:.0f}"
    )


def _shares(steps: list[Spent]) -> str:
    each = median(step.check_cpu_s / step.checks for step in steps if step.checks)
    cpu = median(step.check_cpu_s / step.cpu_s for step in steps)
    wall = median(step.check_wall_s / step.wall_s for step in steps)
    cpu_ms, wall_ms = (1e3 * median(s.cpu_s for s in steps), 1e3 * median(s.wall_s for s in steps))
    return (
        f"{1e6 * each:.1f} us a check, {100 * cpu:.2f} % of {cpu_ms:.2f} ms of the processor, "
        f"{100 * wall:.2f} % of {wall_ms:.2f} ms"
    )


if __name__ == "__main__":
    sys.exit(main())
