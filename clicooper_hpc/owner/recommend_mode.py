"""Accuracy of every release mode forecast for a job, on its public rows behind its public front.

Of the private samples only their number and that of their classes are used. What is simulated:
`clicooper_hpc.owner.mode_forecast`. Time and memory are bounded: slow fronts get fewer rows. Time
is that of the processor, so that a busy machine does not change what is forecast.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clicooper_hpc.config.job import Job
from clicooper_hpc.data.split import Split
from clicooper_hpc.errors import UsageError
from clicooper_hpc.fronts.front import Front
from clicooper_hpc.fronts.job_front import build_base_front, open_public_rows
from clicooper_hpc.fronts.projection import Projection, fit_projection
from clicooper_hpc.owner.make_gradients import Descent
from clicooper_hpc.owner.make_moments import solve_summed_spec
from clicooper_hpc.owner.mode_forecast import ModeForecast, ReleaseWay, forecast_accuracy
from clicooper_hpc.owner.stand_ins import StandIns, choose_stand_ins, most_united, split_classes
from clicooper_hpc.privacy.gradient_sums import solve_split_promise
from clicooper_hpc.privacy.moments import MOST_MOMENT_NUMBERS
from clicooper_hpc.verification.front_run import read_front_run

__all__ = ["Recommendation", "forecast_modes"]

#: Public rows at most, and how long they may take through the front, in s; then a quarter of both
#: for those that are held out.
_MOST_ROWS = 18_000
_FRONT_SECONDS = 16.0
_HELD_PART = 0.25
#: Rows at least, whatever they take.
_LEAST_ROWS = 1000
#: Numbers that rows which stand in or stay public may have together: 256 MiB, unless these are too
#: few rows; a copy or two of them is made.
_MOST_NUMBERS = 2**26
_BLOCK = 256
#: Sets of stand-ins at most and at least, and time after which no further one is begun, in s.
_MOST_SETS = 6
_LEAST_SETS = 2
_SET_SECONDS = 40.0
#: Of samples, where the job does not say; and numbers of a row that has noise of its own.
_SHARE = 0.4
_ROW_NUMBERS = 32


@dataclass(frozen=True, slots=True)
class Recommendation:
    """Forecasts of all modes, and what they were made of.

    Attributes
    ----------
    forecasts
        One for each way to release that there is under the promise.
    source, rows, held_out
        Data set of the public rows, how many of them were used, and those scored on beside.
    stand_ins
        How many of the rows stood in for samples, in each set.
    unseen
        Whether the latter are of a test split, on which the front was perhaps not trained.
    numbers
        Of a row behind the projection; in a set with few public rows it may have fewer.
    samples, classes
        Of the private data.
    public_classes
        Of the public rows.
    seconds
        Time in all.
    """

    forecasts: tuple[ModeForecast, ...]
    source: str
    rows: int
    held_out: int
    stand_ins: tuple[int, ...]
    unseen: bool
    numbers: int
    samples: int
    classes: int
    public_classes: int
    seconds: float


def forecast_modes(job: Job, *, samples: int, classes: int, seed: int = 0) -> Recommendation:
    """Forecast every release mode for ``samples`` private samples of ``classes`` classes.

    Raises
    ------
    UsageError
        The job names no public data, its front is made of private ones, or there is no promise to
        whole samples that modes could share.
    DataError
        There are too few public rows.
    """
    begun, worked = time.monotonic(), time.thread_time()
    _check_comparable(job)
    features, labels, held_out, unseen = _public_features(job, seed)
    # Which classes are near each other: scaled, or one large number would decide.
    scaled = (features - features.mean(axis=0)) / features.std(axis=0).clip(1e-12)
    unions = np.linspace(1, most_united(labels, classes), _MOST_SETS).round().astype(int)
    ways: tuple[ReleaseWay, ...] = ()
    found: list[list[float]] = []
    stand_ins: list[int] = []
    # The narrowest and the broadest first: time may not be enough for all.
    for number in (0, _MOST_SETS - 1, *range(1, _MOST_SETS - 1)):
        if len(found) >= _LEAST_SETS and time.thread_time() - worked > _SET_SECONDS:
            break
        rng = np.random.default_rng([seed, number])
        chosen = choose_stand_ins(
            scaled,
            split_classes(scaled, labels, classes, rng),
            held_out,
            wanted=classes,
            united=int(unions[number]),
            rng=rng,
        )
        stand_ins.append(min(samples, len(chosen.train)))
        rows = _projected(job, features, chosen)
        ways = ways or tuple(_ways(job, rows.shape[1], classes))
        found.append(
            [forecast_accuracy(way, rows, labels, chosen, samples=samples, rng=rng) for way in ways]
        )
    return Recommendation(
        forecasts=tuple(
            ModeForecast(way, tuple(one[place] for one in found)) for place, way in enumerate(ways)
        ),
        source=str(job.front.public_data),
        rows=int((~held_out).sum()),
        held_out=int(held_out.sum()),
        stand_ins=tuple(stand_ins),
        unseen=unseen,
        numbers=max(way.numbers for way in ways),
        samples=samples,
        classes=classes,
        public_classes=len(np.unique(labels)),
        seconds=time.monotonic() - begun,
    )


def _check_comparable(job: Job) -> None:
    if job.front.public_data is None:
        raise UsageError(
            "modes are compared on public rows, and the job names none",
            where="front.public_data",
            remedy="Name a public data set that is like the private one, with labels.",
        )
    if not job.privacy.enabled or job.privacy.unit != "sample":
        raise UsageError(
            "modes are compared under one promise to whole samples, and the job makes none",
            where="privacy.unit",
            remedy='Compare with privacy.enabled = true and privacy.unit = "sample".',
        )


def _public_features(
    job: Job, seed: int
) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.bool_], bool]:
    """Return public rows behind the front without projection, float32 [n, p], and their classes.

    Also which of them are held out, and whether these are of a test split.
    """
    data, train = open_public_rows(job)
    with data:
        front = build_base_front(job, data, train, read_front_run(job))
        features, labels = _features(front, train, seed, 1.0)
        unseen = "test" in data.splits
        if not unseen:
            held_out = np.random.default_rng([seed, 1]).random(len(labels)) < _HELD_PART
            return features, labels, held_out, unseen
        others, more = _features(front, data.split("test"), seed, _HELD_PART)
    held_out = np.arange(len(labels) + len(more)) >= len(labels)
    return np.concatenate([features, others]), np.concatenate([labels, more]), held_out, unseen


def _features(
    front: Front, split: Split, seed: int, part: float
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return what the front gives for as many rows of a split as fit into ``part`` of the time."""
    width = int(np.prod(front.output_shape))
    most = int(part * min(_MOST_ROWS, max(_LEAST_ROWS, _MOST_NUMBERS // width)))
    # In any order: a file may be sorted by class.
    order = np.random.default_rng(seed).permutation(len(split))[:most].astype(np.int64)
    made: list[NDArray[np.float32]] = []
    begun = time.thread_time()
    for start in range(0, len(order), _BLOCK):
        late = time.thread_time() - begun > part * _FRONT_SECONDS
        if late and start >= part * _LEAST_ROWS:
            order = order[:start]
            break
        block = front.apply(split.read(order[start : start + _BLOCK]))
        made.append(block.reshape(len(block), width))
    return np.concatenate(made), split.labels(order)


def _projected(job: Job, features: NDArray[np.float32], chosen: StandIns) -> NDArray[np.float64]:
    """Return all rows, float64 [n, p], behind PCA of those that stay public in one set.

    Stand-ins are left out of it, as samples are.
    """
    section, public = job.front, features[chosen.public]
    wanted = section.dim if section.projection in ("pca", "lda") else section.directions
    most = min(features.shape[1], len(public) // 2, MOST_MOMENT_NUMBERS)
    numbers = None if wanted is None else min(wanted, most)
    linear = fit_projection(public, None, Projection("pca", numbers, section.whiten))
    rows: NDArray[np.float64] = (features - linear.offset.numpy()) @ linear.matrix.numpy()
    return rows[:, :most]


def _ways(job: Job, numbers: int, classes: int) -> Iterator[ReleaseWay]:
    """Yield every way to release, under the job's promise to whole samples, replace-one."""
    epsilon, delta, release = job.privacy.epsilon, job.privacy.delta, job.release
    # Rows, sums and moments all move by 2: the same noise.
    sigma = solve_summed_spec("sums", numbers, epsilon=epsilon, delta=delta).sigma
    few = min(numbers, _ROW_NUMBERS)
    private = job.front.projection == "private-lda"
    share = job.front.private_share if private else _SHARE
    yield ReleaseWay("rows", f"{few} numbers, each row noised", few, sigma, each_row=True)
    scores = f'projection "private-lda", {100 * share:.0f} % of the samples spent'
    yield ReleaseWay("rows", scores, numbers, sigma, spent=share)
    yield ReleaseWay("sums", "", numbers, sigma)
    yield ReleaseWay("moments", "", numbers, sigma)
    try:
        promise = solve_split_promise(
            numbers,
            classes,
            epsilon=epsilon,
            delta=delta,
            rounds=release.rounds,
            share=release.gradient_share,
        )
    except UsageError:
        # So little epsilon that rounds cannot share it; the other modes can do with it.
        return
    descent = Descent(release.rounds, release.gradient_step, promise)
    how = f"{release.rounds} rounds"
    yield ReleaseWay("gradients", how, numbers, promise.moments.sigma, descent=descent)
