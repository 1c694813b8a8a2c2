"""Learning rates as pure functions of the step.

Nothing is carried from step to step, so a restarted run, another rank and an audit that replays one
stage all get the rate of a step from its number alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from clicooper_hpc.errors import UsageError

__all__ = ["RATE_SCHEDULES", "LearningRateSchedule", "RateSchedule", "learning_rate"]

RateSchedule = Literal["constant", "cosine", "step", "linear"]
"""Names a job file can use."""

RATE_SCHEDULES: tuple[str, ...] = get_args(RateSchedule)

_SHAPES: dict[str, Callable[[float], float]] = {
    "cosine": lambda progress: (1.0 + math.cos(math.pi * progress)) / 2.0,
    "linear": lambda progress: 1.0 - progress,
}


@dataclass(frozen=True, slots=True)
class LearningRateSchedule:
    """How the learning rate changes over a run; see `learning_rate`.

    Attributes
    ----------
    base
        Rate at the end of warm-up, > 0.
    schedule
        One of `RATE_SCHEDULES`.
    warmup_steps
        0 .. steps of the run.
    final_fraction
        For ``cosine`` and ``linear``: *f*, in [0, 1].
    milestones
        For ``step``: step numbers (not epochs) from which the rate is multiplied by ``gamma``
        once more.
    gamma
        For ``step``: factor, > 0.
    """

    base: float
    schedule: str = "constant"
    warmup_steps: int = 0
    final_fraction: float = 0.0
    milestones: Sequence[int] = ()
    gamma: float = 0.1


def learning_rate(step: int, *, total_steps: int, schedule: LearningRateSchedule) -> float:
    r"""Return the learning rate of one step.

    During warm-up, ``step < warmup_steps = w``, the rate climbs as ``base * (step + 1) / w``.
    After it, with :math:`t = (step - w) / (total - w)` in [0, 1) and final fraction *f*:

    ========  ================================================================================
    constant  ``base``
    linear    ``base * (f + (1 - f) * (1 - t))``
    cosine    ``base * (f + (1 - f) * (1 + cos(pi t)) / 2)`` (Loshchilov and Hutter, "SGDR",
              ICLR 2017, equation 5, without restarts)
    step      ``base * gamma ** n``, n = how many milestones are ``<= step``
    ========  ================================================================================

    The rate ``base * f`` itself would be that of step ``total_steps``, one past the last: no step
    is wasted on a rate of zero.

    Parameters
    ----------
    step
        0 .. ``total_steps - 1``.
    total_steps
        Steps of the whole run, not of one start of it.

    Raises
    ------
    UsageError
        Unknown schedule, or a value a job file must not have.
    ValueError
        ``step`` is outside the run.
    """
    # At every call, not when it is made: only with the number of steps is a warm-up too long.
    _check_schedule(schedule, total_steps)
    if not 0 <= step < total_steps:
        raise ValueError(f"step {step} is not one of the {total_steps} steps of the run")
    base, warmup, final = schedule.base, schedule.warmup_steps, schedule.final_fraction
    if step < warmup:
        return _round_rate(base * (step + 1) / warmup)
    if schedule.schedule == "constant":
        return _round_rate(base)
    if schedule.schedule == "step":
        passed = sum(milestone <= step for milestone in schedule.milestones)
        return _round_rate(base * schedule.gamma**passed)
    shape = _SHAPES[schedule.schedule]((step - warmup) / (total_steps - warmup))
    return _round_rate(base * (final + (1.0 - final) * shape))


def _round_rate(rate: float) -> float:
    # Twelve digits: the last bits of cos and pow differ between C libraries, and hosts that train
    # or audit the same stage must use the same rate to the bit.
    return float(f"{rate:.12g}")


def _check_schedule(schedule: LearningRateSchedule, total_steps: int) -> None:
    if schedule.schedule not in RATE_SCHEDULES:
        raise UsageError(
            f"there is no learning-rate schedule {schedule.schedule!r}",
            remedy=f"Known are {', '.join(RATE_SCHEDULES)}.",
        )
    if not (math.isfinite(schedule.base) and schedule.base > 0):
        raise UsageError(f"the learning rate must be a positive number, not {schedule.base}")
    if not 0 <= schedule.warmup_steps <= total_steps:
        raise UsageError(
            f"a warm-up of {schedule.warmup_steps} steps does not fit a run of {total_steps} steps",
            remedy="Shorten the warm-up or train longer.",
        )
    if not (math.isfinite(schedule.gamma) and schedule.gamma > 0):
        raise UsageError(
            f"the learning-rate factor gamma must be a positive number, not {schedule.gamma}"
        )
    if not 0 <= schedule.final_fraction <= 1:
        raise UsageError(
            "the final fraction of the learning rate must lie in [0, 1], not "
            f"{schedule.final_fraction}"
        )
