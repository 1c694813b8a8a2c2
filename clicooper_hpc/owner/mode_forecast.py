"""What accuracy a release mode would reach, simulated on public rows that stand in for samples.

The noise of a release weighs by how many samples share it. Fewer stand-ins than samples get noise
smaller in proportion, so that it weighs as much; that means of fewer rows are less sure is not
undone. The noise is a continuous Gaussian: close enough for accuracy, not for a guarantee.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from clicooper_hpc.config.owner_sections import ReleaseMode
from clicooper_hpc.owner.gradient_rounds import OwnerRows, descend, stable_step, sum_gradients
from clicooper_hpc.owner.make_gradients import Descent
from clicooper_hpc.owner.make_moments import NoisedClassSums, fit_sums
from clicooper_hpc.owner.moment_model import MomentModel
from clicooper_hpc.owner.stand_ins import StandIns
from clicooper_hpc.privacy.moments import Moments, MomentSums

__all__ = ["ModeForecast", "ReleaseWay", "choose_forecast", "forecast_accuracy"]

#: Means this close are called equal: the order of modes has been wrong by as much in whole runs
#: (docs/accuracy.md).
_CLOSE = 0.02


@dataclass(frozen=True, slots=True)
class ReleaseWay:
    """One way to release.

    Attributes
    ----------
    mode, how
        ``release.mode``, and in words what else it takes; empty for nothing.
    numbers
        Of a row: so many of the first.
    sigma
        Noise in each number of the sums, or of every row.
    each_row
        Every row has noise of its own, instead of the sums of all.
    spent
        Share of the samples that enter the sums, in (0, 1].
    descent
        Rounds of gradients, with their promise.
    """

    mode: ReleaseMode
    how: str
    numbers: int
    sigma: float
    each_row: bool = False
    spent: float = 1.0
    descent: Descent | None = None


@dataclass(frozen=True, slots=True)
class ModeForecast:
    """Accuracies in [0, 1] of one way to release, one for each set of stand-ins."""

    way: ReleaseWay
    accuracies: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Mean over the sets."""
        return sum(self.accuracies) / len(self.accuracies)


def choose_forecast(
    forecasts: tuple[ModeForecast, ...],
) -> tuple[ModeForecast, tuple[ModeForecast, ...]]:
    """Return the forecast of the best mean, and others within two points of it.

    Means over the same sets, so what makes a set hard or easy is no difference between modes.
    """
    best, *others = sorted(forecasts, key=lambda one: -one.mean)
    return best, tuple(one for one in others if best.mean - one.mean < _CLOSE)


def forecast_accuracy(
    way: ReleaseWay,
    rows: NDArray[np.float64],
    labels: NDArray[np.int64],
    chosen: StandIns,
    *,
    samples: int,
    rng: np.random.Generator,
) -> float:
    """Return the accuracy, on stand-ins held out, of what a release of stand-ins determines.

    Parameters
    ----------
    rows, labels
        Public rows behind front and projection, float64 [n, p], and their classes int64 [n].
    samples
        Private samples that the stand-ins of ``chosen`` stand in for.
    """
    rows = rows[:, : way.numbers]
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True).clip(1e-12)
    places = chosen.train[:samples]
    released = rows[places], chosen.classes[places]
    share, count = len(places) / samples, int(chosen.classes.max()) + 1
    noise = way.sigma * share / way.spent
    if way.each_row:
        # A class mean of n rows, each with its own noise, has 1 / sqrt(n) of it; a sum's 1 / n.
        noise *= math.sqrt(samples / count)
    exact = MomentSums(count, rows.shape[1], None)
    exact.add_rows(*released)
    sums = exact.sums + noise * rng.normal(size=exact.sums.shape)
    moments: Moments | NoisedClassSums = NoisedClassSums(sums, exact.samples, noise)
    if way.mode in ("moments", "gradients"):
        moments = _noised_moments(exact, sums, noise, rng)

    improve = None
    if way.descent is not None:
        improve = partial(_take_rounds, way.descent, released, share, rng)
    public = rows[chosen.public], labels[chosen.public]
    baselines, _ = fit_sums(moments, *public, improve=improve)
    held = rows[chosen.held]
    model = baselines.gradients or baselines.moments
    if model is None:
        scores = baselines.class_sums.apply(torch.from_numpy(held)).numpy().astype(np.float64)
    else:
        scores = model.class_probabilities(held)
    return float((scores.argmax(axis=1) == chosen.classes[chosen.held]).mean())


def _noised_moments(
    exact: MomentSums, sums: NDArray[np.float64], noise: float, rng: np.random.Generator
) -> Moments:
    upper = np.triu(rng.normal(size=exact.second.shape), 1)
    wide = noise * math.sqrt(2)
    diagonal = wide * np.diag(rng.normal(size=len(upper)))
    return Moments(
        sums,
        exact.second + noise * (upper + upper.T) + diagonal,
        exact.sizes + wide * rng.normal(size=len(exact.sizes)),
        exact.samples,
        noise,
    )


def _take_rounds(
    descent: Descent,
    released: tuple[NDArray[np.float64], NDArray[np.int64]],
    share: float,
    rng: np.random.Generator,
    start: MomentModel,
    recoloured: NDArray[np.float64],
) -> MomentModel:
    data = OwnerRows(released[0].astype(np.float32), released[1])
    noise = 0.0 if descent.promise is None else share * descent.promise.gradients.sigma

    def noised_sum(_: int, model: MomentModel) -> NDArray[np.float64]:
        exact = sum_gradients(data, model, None).plain_sum()
        noised: NDArray[np.float64] = exact + noise * rng.normal(size=exact.shape)
        return noised

    return descend(
        start,
        noised_sum,
        samples=len(data.rows),
        rounds=descent.rounds,
        step=stable_step(recoloured, descent.step),
    )
