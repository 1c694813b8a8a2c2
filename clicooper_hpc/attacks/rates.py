"""Confidence intervals of shares of right answers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

__all__ = ["bootstrap", "clopper_pearson"]

_DRAWS = 500


def clopper_pearson(right: int, of: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return the exact two-sided interval of a share (Clopper and Pearson 1934)."""
    interval = binomtest(right, of).proportion_ci(confidence, method="exact")
    return float(interval.low), float(interval.high)


def bootstrap(
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
    rng = np.random.default_rng(seed)
    values = [statistic(rng.integers(0, size, size)) for _ in range(_DRAWS)]
    edge = (1 - confidence) / 2
    low, high = np.nanquantile(values, [edge, 1 - edge])
    return float(low), float(high)
