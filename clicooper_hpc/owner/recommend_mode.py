"""Which release mode suits a job: its public rows stand in for the private ones, in every mode.

Only the number of private samples and of their classes is used, never a row. The front is the
job's own, as far as it is public; the projection is fitted on the public rows that fit into the
time. See `clicooper_hpc.owner.mode_forecast` for what is simulated.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from clicooper_hpc.config.job import Job
from clicooper_hpc.config.owner_sections import ReleaseMode
from clicooper_hpc.data.split import Split
from clicooper_hpc.errors import DataError, UsageError
from clicooper_hpc.fronts.front import Front
from clicooper_hpc.fronts.job_front import build_base_front, open_public_rows
from clicooper_hpc.fronts.projection import Projection, fit_projection
from clicooper_hpc.owner.make_moments import solve_summed_spec
from clicooper_hpc.owner.mode_forecast import (
    SUMMED_FORECASTS,
    Forecast,
    ModeForecast,
    forecast_class_scores,
    forecast_moments,
    forecast_rows,
)
from clicooper_hpc.owner.release_mechanism import mechanism_guarantee
from clicooper_hpc.owner.stand_ins import StandIns, stand_in_sets
from clicooper_hpc.privacy.clipping import clip_rows
from clicooper_hpc.privacy.moments import MOST_MOMENT_NUMBERS
from clicooper_hpc.privacy.release_spec import solve_release_spec

__all__ = ["Recommendation", "forecast_modes"]

#: Public rows at most; time in s for pulling them through the front; and rows at least.
MOST_ROWS = 6000
FRONT_SECONDS = 20.0
LEAST_ROWS = 1000
_BLOCK = 256
#: Numbers of a row where the job does not say: what docs/accuracy.md takes on CIFAR.
_NUMBERS = 384
_SHARE = 0.4


@dataclass(frozen=True, slots=True)
class Recommendation:
    """Forecasts of all modes, and what they were made of.

    Attributes
    ----------
    forecasts
        One for each way to release.
    missing
        Why there is none for others, one line each.
    rows, source
        Public rows used, and the file they are from.
    samples, classes, stand_in_classes
        Private samples and classes, and the public classes there are to stand in for these.
    front_s, seconds
        Time for the front, and in all.
    """

    forecasts: tuple[ModeForecast, ...]
    missing: tuple[str, ...]
    rows: int
    source: str
    samples: int
    classes: int
    stand_in_classes: int
    front_s: float
    seconds: float


@dataclass(frozen=True, slots=True, eq=False)
class _Way:
    """One way to release: its noise, and rows float64 [n, p] behind its front by stand-ins."""

    mode: str
    how: str
    forecast: Forecast
    sigma: float
    rows: Callable[[StandIns], NDArray[np.float64]]


def forecast_modes(job: Job, *, samples: int, classes: int, seed: int = 0) -> Recommendation:
    """Forecast every release mode for ``samples`` private samples of ``classes`` classes.

    Raises
    ------
    UsageError
        The job names no public data, or its front is made of private ones.
    DataError
        There are too few public rows.
    """
    begun = time.monotonic()
    if job.front.public_data is None:
        raise UsageError(
            "modes are compared on public rows, and the job names none",
            where="front.public_data",
            remedy="Name a public data set that is like the private one, with labels.",
        )
    data, split = open_public_rows(job)
    with data:
        base = build_base_front(job, split)
        features, places = _features(base, split, seed)
        labels = split.labels(places)
    front_s = time.monotonic() - begun
    flat = features.reshape(len(features), -1)
    sets = list(_sets(flat, labels, classes, seed))
    forecasts, missing = [], []
    for way in _ways(job, base, features, labels):
        try:
            found = [
                way.forecast(
                    one.scene(way.rows(one), labels, samples),
                    way.sigma,
                    np.random.default_rng([seed, number]),
                )
                for number, one in enumerate(sets)
            ]
        except DataError as error:
            missing.append(f"{way.mode}{way.how and f', {way.how}'}: {error.what}")
            continue
        forecasts.append(ModeForecast(way.mode, way.how, tuple(found)))
    return Recommendation(
        forecasts=tuple(forecasts),
        missing=tuple(missing),
        rows=len(flat),
        source=job.front.public_data,
        samples=samples,
        classes=classes,
        stand_in_classes=min(one.count for one in sets),
        front_s=front_s,
        seconds=time.monotonic() - begun,
    )


def _features(
    base: Front, split: Split, seed: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return what the front gives for as many public rows as the time allows, and their places."""
    order = np.random.default_rng(seed).permutation(len(split))[:MOST_ROWS]
    made: list[NDArray[np.float32]] = []
    begun = time.monotonic()
    done = 0
    while done < len(order) and (done < LEAST_ROWS or time.monotonic() - begun < FRONT_SECONDS):
        block = np.sort(order[done : done + _BLOCK])
        order[done : done + len(block)] = block
        made.append(base.apply(split.read(block)))
        done += len(block)
    return np.concatenate(made), order[:done].astype(np.int64)


def _sets(
    flat: NDArray[np.float32], labels: NDArray[np.int64], classes: int, seed: int
) -> Iterator[StandIns]:
    # Which classes are near each other: scaled, or one large number would decide.
    scaled = (flat - flat.mean(axis=0)) / np.maximum(flat.std(axis=0), 1e-12)
    return stand_in_sets(scaled.astype(np.float64), labels, classes, seed=seed)


def _ways(
    job: Job, base: Front, features: NDArray[np.float32], labels: NDArray[np.int64]
) -> Iterator[_Way]:
    """Yield every way to release that the job's front and unit allow."""
    section, privacy = job.front, job.privacy
    flat = features.reshape(len(features), -1)
    width = flat.shape[1]
    numbers = section.dim if section.projection in ("pca", "lda") else None
    # Without a number of the job's own: as many directions as the rows vary in, up to a bound.
    most = min(_NUMBERS, len(flat) // 3)
    principal = _principal(flat, numbers and min(numbers, width, len(flat) // 3), section.whiten)
    principal = principal if numbers else principal[:, :most]
    unit = principal / np.linalg.norm(principal, axis=1, keepdims=True).clip(1e-12)

    def scaled(_: StandIns) -> NDArray[np.float64]:
        return unit

    own: Callable[[StandIns], NDArray[np.float64]] = scaled
    shape, non_negative = base.output_shape, False
    if section.projection == "pca":
        own, shape = _clipped(job, lambda _: principal), (principal.shape[1],)
    elif section.projection == "lda":
        fitted = Projection("lda", section.dim, section.whiten)

        def discriminant(one: StandIns) -> NDArray[np.float64]:
            linear = fit_projection(flat[one.public], labels[one.public], fitted)
            return np.asarray((flat - linear.offset.numpy()) @ linear.matrix.numpy())

        own, shape = _clipped(job, discriminant), (section.dim or 1,)
    elif section.projection == "none":
        own, non_negative = _clipped(job, lambda _: flat.astype(np.float64)), base.non_negative
    if section.projection != "private-lda":
        sigma = 0.0
        if privacy.enabled:
            promise = mechanism_guarantee(job, shape, non_negative=non_negative)
            sigma = solve_release_spec(promise).sigma / privacy.clip
        yield _Way("rows", "", forecast_rows, sigma, own)
    summed = partial(solve_summed_spec, epsilon=privacy.epsilon, delta=privacy.delta)
    if privacy.unit == "sample":
        share = section.private_share if section.projection == "private-lda" else _SHARE
        yield _Way(
            "rows",
            f'class scores that {100 * share:.0f} % of the samples pay for ("private-lda")',
            partial(forecast_class_scores, spent=share),
            summed("sums", unit.shape[1]).sigma if privacy.enabled else 0.0,
            scaled,
        )
    for mode in get_args(ReleaseMode):
        if mode == "rows":
            continue
        known = mode in SUMMED_FORECASTS
        held = unit[:, :MOST_MOMENT_NUMBERS]
        spec = summed(mode if known else "moments", held.shape[1]) if privacy.enabled else None
        yield _Way(
            mode,
            "" if known else "taken for as good as moments",
            SUMMED_FORECASTS.get(mode, forecast_moments),
            0.0 if spec is None else spec.sigma,
            lambda _, rows=held: rows,  # type: ignore[misc]
        )


def _principal(flat: NDArray[np.float32], dim: int | None, whiten: float) -> NDArray[np.float64]:
    linear = fit_projection(flat, None, Projection("pca", dim, whiten))
    return np.asarray((flat - linear.offset.numpy()) @ linear.matrix.numpy())


def _clipped(
    job: Job, rows: Callable[[StandIns], NDArray[np.float64]]
) -> Callable[[StandIns], NDArray[np.float64]]:
    """Return ``rows`` as they enter a release of rows, in units of the clip bound."""

    def clipped(one: StandIns) -> NDArray[np.float64]:
        made = rows(one).copy()
        if job.front.normalise:
            made /= np.linalg.norm(made, axis=1, keepdims=True).clip(1e-12)
        if job.front.normalise or not job.privacy.enabled:
            return made
        promise = mechanism_guarantee(job, made.shape[1:], non_negative=False)
        return clip_rows(made, promise) / job.privacy.clip

    return clipped
