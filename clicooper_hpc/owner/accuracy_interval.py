"""Wilson's 95 % interval of an accuracy: what a number of test samples allows to say."""

from __future__ import annotations

import math
from statistics import NormalDist

__all__ = ["accuracies_differ", "accuracy_interval"]

_Z = NormalDist().inv_cdf(0.975)


def accuracy_interval(accuracy: float, samples: float) -> tuple[float, float]:
    """Return the ends of Wilson's 95 % interval of ``accuracy`` measured on ``samples`` > 0."""
    spread = _Z * _Z / samples
    centre = (accuracy + spread / 2) / (1 + spread)
    half = math.sqrt(spread * (accuracy * (1 - accuracy) + spread / 4)) / (1 + spread)
    return max(0.0, centre - half), min(1.0, centre + half)


def accuracies_differ(first: tuple[float, float], second: tuple[float, float]) -> bool:
    """Return whether two accuracies, each with its samples, differ by more than chance would do.

    Newcombe's 95 % interval of a difference of independent shares, made of both Wilson intervals.
    On the very same samples differences are surer than that, so it errs towards "no difference".
    """
    (higher, more), (lower, less) = sorted((first, second), reverse=True)
    below, above = accuracy_interval(higher, more)[0], accuracy_interval(lower, less)[1]
    return higher - lower > math.hypot(higher - below, above - lower)
