"""Several runs side by side: every result of each, and mean and spread over all that have it."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from clicooper_hpc.report.numbers import number_text, percent_text, result_number, result_text
from clicooper_hpc.report.promise import PrivacyPromise
from clicooper_hpc.report.run_reading import RunReading
from clicooper_hpc.report.verdict import RunVerdict
from clicooper_hpc.runstore.result_figures import RESULT_FIGURES

__all__ = ["PrivacyPoint", "RunComparison", "compare_runs"]

_EPSILON: Final = "epsilon of a sample"
#: Range that an axis can show; beyond it a promise says all or nothing.
_LEAST_EPSILON: Final = 1e-4
_MOST_EPSILON: Final = 1e5
#: Keys of the job at which runs differ that are named.
_MOST_KEYS: Final = 12


@dataclass(frozen=True, slots=True)
class PrivacyPoint:
    """Epsilon of a sample (infinite without privacy) and accuracy in [0, 1] of one run."""

    name: str
    epsilon: float
    accuracy: float


@dataclass(frozen=True, slots=True)
class RunComparison:
    """Several runs side by side.

    Attributes
    ----------
    names
        Of the runs, in the order given.
    rows
        Result, what it is, its value in each run, then number of runs with it, mean, sample
        standard deviation (of n - 1; none of a single run), smallest and largest.
    differences
        Key of the job and its value in each run, where they differ.
    points
        Of the plot; empty if fewer than two epsilons are there that an axis can show.
    """

    names: Sequence[str]
    rows: Sequence[tuple[str, str, Sequence[str], int, str, str, str]]
    differences: Sequence[tuple[str, Sequence[str]]]
    points: Sequence[PrivacyPoint]


def compare_runs(
    runs: Sequence[tuple[RunReading, RunVerdict, PrivacyPromise]],
) -> RunComparison:
    """Compare two runs or more."""
    results = [{_EPSILON: promise.epsilon, **reading.run.results} for reading, _, promise in runs]
    names = list(dict.fromkeys(name for one in results for name in one))
    points = [
        PrivacyPoint(reading.name, promise.epsilon, verdict.accuracy)
        for reading, verdict, promise in runs
        if promise.epsilon is not None
        and verdict.accuracy is not None
        and (_LEAST_EPSILON <= promise.epsilon <= _MOST_EPSILON or promise.epsilon == math.inf)
    ]
    public = runs[0][0].public
    return RunComparison(
        names=[reading.name for reading, _, _ in runs],
        rows=[_row(public.line(name), [one.get(name) for one in results]) for name in names],
        differences=_differences([reading for reading, _, _ in runs]),
        points=points if len({one.epsilon for one in points}) > 1 else (),
    )


def _row(name: str, values: Sequence[object]) -> tuple[str, str, Sequence[str], int, str, str, str]:
    text = percent_text if name.endswith("_accuracy") else number_text
    what = RESULT_FIGURES[name][1] if name in RESULT_FIGURES else ""
    cells = ["infinite" if value == math.inf else result_text(name, value) for value in values]
    known = [number for value in values if (number := result_number(name, value)) is not None]
    if not known:
        return name, what, cells, 0, text(None), text(None), text(None)
    mean = text(math.fsum(known) / len(known))
    deviation = text(statistics.stdev(known) if len(known) > 1 else None)
    if text is percent_text:
        # A difference of shares, and no share itself.
        deviation = deviation.replace("%", "points")
    span = f"{text(min(known))} .. {text(max(known))}"
    return name, what, cells, len(known), mean, deviation, span


def _differences(readings: Sequence[RunReading]) -> list[tuple[str, Sequence[str]]]:
    known = [reading.attempt("the job", partial(_flat_job, reading)) or {} for reading in readings]
    found: list[tuple[str, Sequence[str]]] = []
    for key in sorted({key for job in known for key in job}):
        values = [job.get(key, "not there") for job in known]
        if any(value != values[0] for value in values):
            shown = [
                reading.public.line(value) for reading, value in zip(readings, values, strict=True)
            ]
            found.append((readings[0].public.line(key), shown))
    if len(found) > _MOST_KEYS:
        more = len(found) - _MOST_KEYS
        found = [*found[:_MOST_KEYS], (f"and {more} keys more", [""] * len(readings))]
    return found


def _flat_job(reading: RunReading) -> dict[str, str]:
    """Return values of all sections as text, by ``section.key``."""
    return {
        f"{section}.{key}": str(value)
        for section, values in reading.run.job.items()
        for key, value in (values.items() if isinstance(values, dict) else [("", values)])
    }
