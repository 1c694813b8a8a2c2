"""Noise multiplier of DP-SGD for a target, by the PRV accountant of Opacus, within its bounds.

The accountant lays a grid over the privacy loss. Outside of what fits, it fails late or takes the
memory of the machine, so targets it cannot state are refused before it is asked.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass

from clicooper_hpc.errors import UsageError
from clicooper_hpc.fronts.dpsgd_settings import DpSgdSettings

__all__ = ["DpSgdNoise", "solve_dpsgd_noise"]

# Of Opacus: absolute error of epsilon, and of delta as a share of the target.
_EPSILON_ERROR, _DELTA_ERROR = 0.01, 1e-3
#: Most points of the grid at the target; the search meets epsilons a few times as large.
_MOST_POINTS = 2**21
_MOST_NOISE = 2.0**20
_MOST_HALVINGS = 60


@dataclass(frozen=True, slots=True)
class DpSgdNoise:
    """Noise for a target; ``epsilon`` is what it costs, at most the target, add-remove."""

    noise_multiplier: float
    epsilon: float
    sample_rate: float
    steps: int


def solve_dpsgd_noise(settings: DpSgdSettings, rows: int) -> DpSgdNoise:
    """Return the least noise that keeps the target for a training on ``rows`` samples.

    Raises
    ------
    UsageError
        The batch is larger than the data, or the accountant cannot state the target.
    """
    if settings.batch_rows > rows:
        raise UsageError(
            f"{settings.batch_rows} is more than the {rows} private rows",
            where="front.dp_sgd.batch_size",
            remedy=f"Choose at most {rows}.",
        )
    # The number of samples is public, and with it the sampling rate.
    rate = settings.batch_rows / rows
    steps = max(1, round(settings.epochs / rate))
    _check_grid(settings, steps, rows)
    try:
        noise, epsilon = _search_noise(settings.epsilon, settings.delta, rate, steps)
    # Opacus says by many errors that its floats do not suffice; which depends on its version.
    except (ValueError, ArithmeticError, RuntimeError, MemoryError) as error:
        raise _unfit(settings, steps, rows, str(error).rstrip(".")) from None
    return DpSgdNoise(noise, epsilon, rate, steps)


def _check_grid(settings: DpSgdSettings, steps: int, rows: int) -> None:
    """Refuse a target whose grid would not fit."""
    # As Opacus lays it, but never divided by a delta that is next to none.
    logarithm = math.log(12 / _DELTA_ERROR) - math.log(settings.delta)
    mesh = _EPSILON_ERROR / math.sqrt(steps * logarithm / 2)
    points = 2 * settings.epsilon / mesh
    if points > _MOST_POINTS:
        raise _unfit(settings, steps, rows, f"it would need {points:.2g} points of its grid")


def _search_noise(target: float, delta: float, rate: float, steps: int) -> tuple[float, float]:
    """Return noise and epsilon, as Opacus' own search would; but it ends, whatever it meets."""
    from opacus.accountants import PRVAccountant

    def cost(noise: float) -> float:
        accountant = PRVAccountant()
        accountant.history = [(noise, rate, steps)]
        epsilon = float(accountant.get_epsilon(delta))
        if not math.isfinite(epsilon):
            raise ValueError(f"epsilon {epsilon} at noise multiplier {noise:g}")
        return epsilon

    with warnings.catch_warnings():
        # Of orders and logarithms that it treats rightly.
        warnings.simplefilter("ignore")
        low, high, epsilon = 0.0, 10.0, math.inf
        while epsilon > target:
            high *= 2
            if high > _MOST_NOISE:
                raise ValueError("no noise is enough")
            epsilon = cost(high)
        for _ in range(_MOST_HALVINGS):
            if target - epsilon <= _EPSILON_ERROR:
                break
            middle = (low + high) / 2
            found = cost(middle)
            if found < target:
                high, epsilon = middle, found
            else:
                low = middle
    return high, epsilon


def _unfit(settings: DpSgdSettings, steps: int, rows: int, why: str) -> UsageError:
    return UsageError(
        f"the accountant cannot state epsilon {settings.epsilon:g}, delta {settings.delta:g} of "
        f"{steps} steps with {settings.batch_rows} of {rows} samples each ({why})",
        where="front.dp_sgd",
        remedy="Choose an epsilon between 0.05 and about 100, a delta of 1e-10 or more, or fewer "
        "epochs.",
    )
