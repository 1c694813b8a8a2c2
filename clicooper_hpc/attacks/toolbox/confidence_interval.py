"""Confidence intervals of scores."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

__all__ = ["bootstrap_group_interval", "bootstrap_interval", "clopper_pearson_interval"]

# Enough for the ends of a 95 % interval; the statistics are costly (a Hungarian assignment each).
_DRAWS = 500


def clopper_pearson_interval(right: int, of: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return the exact two-sided interval of a share; nan of none.

    Clopper and Pearson, "The use of confidence or fiducial limits illustrated in the case of the
    binomial", Biometrika 26 (1934).
    """
    # No trials say nothing: nan, where 0 to 1 would look like a measurement.
    if of < 1:
        return math.nan, math.nan
    interval = binomtest(right, of).proportion_ci(confidence, method="exact")
    return float(interval.low), float(interval.high)


def bootstrap_interval(
    statistic: Callable[[NDArray[np.int64]], float],
    size: int,
    seed: int,
    confidence: float = 0.95,
) -> tuple[float, float]:
    """Return the percentile interval of a statistic of samples drawn with replacement.

    Parameters
    ----------
    statistic
        Of places int64 [size] into the samples.
    size
        Number of samples.
    seed, confidence
        Of the draws; share of draws inside.
    """
    if size < 1:
        return math.nan, math.nan
    rng = np.random.default_rng(seed)
    values = [statistic(rng.integers(0, size, size)) for _ in range(_DRAWS)]
    edge = (1 - confidence) / 2
    # A draw that holds one class only has no AUC and says nothing about the others.
    low, high = np.nanquantile(values, [edge, 1 - edge])
    return float(low), float(high)


def bootstrap_group_interval(
    right: NDArray[np.bool_], group: NDArray[np.int64], seed: int
) -> tuple[float, float]:
    """Return the 95 % percentile interval of an accuracy, whole groups drawn with replacement.

    For guesses that all members of a group share: single members are no independent trials.
    """
    if not len(right):
        return math.nan, math.nan
    # Sums by group once, then a draw is a lookup.
    numbers = np.unique(group, return_inverse=True)[1]
    sizes = np.bincount(numbers).astype(np.float64)
    hits = np.bincount(numbers, weights=right.astype(np.float64))

    def accuracy(drawn: NDArray[np.int64]) -> float:
        return float(hits[drawn].sum() / sizes[drawn].sum())

    return bootstrap_interval(accuracy, len(sizes), seed)
