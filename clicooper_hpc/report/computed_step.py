"""One step of the pipeline as its schedule and its mean times give it: computed, not measured."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from clicooper_hpc.pipeline.schedule import Action, Op, Schedule, ScheduleError, check_schedule
from clicooper_hpc.pipeline.simulator import Simulation, simulate
from clicooper_hpc.report.run_reading import RunReading
from clicooper_hpc.report.step_times import RankTimes

__all__ = ["compute_step"]

#: Operations that a drawing can tell apart; a stranger's schedule may have any number.
_MOST_OPS: Final = 2000
_LANE: Final = re.compile(r"(\d+): ((?:[FB]\d{1,6} ?)+)")


def compute_step(reading: RunReading, times: list[RankTimes]) -> Simulation | None:
    """Return one step of the stored schedule, each operation as long as the mean of its kind.

    Messages take no time. None, and a gap that says why, where schedule or times are missing.
    """
    schedule = _stored_schedule(str(reading.run.pipeline.get("schedule", "")))
    if schedule is None:
        reading.add_gap("the computed step: the folder holds no schedule that can be drawn")
        return None
    by_rank: Mapping[int, RankTimes] = {one.rank: one for one in times}
    lanes = range(1, len(schedule) + 1)
    if any(rank not in by_rank for rank in lanes):
        reading.add_gap("the computed step: the times of some trainers are not known")
        return None
    try:
        count = check_schedule(schedule)
        return simulate(
            schedule,
            coupling="one-way"
            if reading.job_value("pipeline", "coupling") == "one-way"
            else "backprop",
            forward_cost=[_mean(by_rank[rank], "forward", count) for rank in lanes],
            backward_cost=[_mean(by_rank[rank], "backward", count) for rank in lanes],
        )
    except ScheduleError as error:
        reading.add_gap(f"the computed step: {error}")
        return None


def _mean(times: RankTimes, activity: str, micro_batches: int) -> float:
    return times.seconds[activity] / times.steps / micro_batches


def _stored_schedule(text: str) -> Schedule | None:
    """Read lines such as ``1: F0 B0``; None if they are none, or too many for a drawing."""
    lanes = []
    for number, line in enumerate(text.splitlines(), 1):
        found = _LANE.fullmatch(line)
        if found is None or int(found[1]) != number:
            return None
        lanes.append(tuple(Op(Action(op[0]), int(op[1:])) for op in found[2].split()))
    if not lanes or sum(map(len, lanes)) > _MOST_OPS:
        return None
    return tuple(lanes)
