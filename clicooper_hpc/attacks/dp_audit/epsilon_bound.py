"""A lower bound of epsilon, measured on releases of worst-case rows.

Method: Jagielski, Ullman and Oprea, "Auditing Differentially Private Machine Learning", 2020, for
the two hypotheses; Nasr et al., "Tight Auditing of Differentially Private Machine Learning",
USENIX Security 2023, for the bound through the Gaussian trade-off curve.

Two neighbouring inputs are released many times. On one half of the releases a linear statistic
(Fisher's discriminant, which is the likelihood ratio for Gaussian noise of any covariance) and its
threshold are chosen, on the other half both error rates are counted. Their Clopper-Pearson limits
a (false positives) and b (false negatives) bound

    mu >= Phi^-1(1 - a) - Phi^-1(b)      if the mechanism is mu-GDP, and so epsilon(mu, delta);
    epsilon >= ln((1 - delta - b) / a)   whatever the mechanism is (and with a, b exchanged).

The first refutes the claim of a Gaussian mechanism with far fewer releases. Both hold at the stated
confidence if releases are independent; a mechanism that repeats its noise breaks just that, and is
told apart all the more easily (and by `clicooper_hpc.attacks.dp_audit.noise_check`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri
from scipy.stats import beta

from clicooper_hpc.privacy.gaussian_mechanism import gaussian_epsilon

__all__ = ["RELEASES_PER_NUMBER", "EpsilonBound", "ReleaseFunction", "epsilon_lower_bound"]

#: n independent releases [n, b, d] of one input, float64 [b, d]. All b rows leave: whatever one
#: row's replacement does to the others is part of what is measured.
ReleaseFunction = Callable[[NDArray[np.float64], int], NDArray[np.float32]]

#: The covariance of the released numbers is estimated: this many releases for each of them.
RELEASES_PER_NUMBER: Final = 16
# Keeps the solution finite where released numbers are tied to each other, and changes no other.
_RIDGE: Final = 1e-10
# Thresholds tried: quantiles of the pooled statistic, dense in both tails as well.
_LEVELS: Final = ndtr(np.linspace(-4, 4, 201))


@dataclass(frozen=True, slots=True)
class EpsilonBound:
    """What the releases prove at ``confidence``.

    Parameters
    ----------
    mu
        Lower bound of mu of Gaussian differential privacy.
    epsilon
        Of that mu, at ``delta``.
    epsilon_direct
        Lower bound of epsilon at ``delta`` without assuming a Gaussian trade-off curve.
    trials
        Releases of each input, half of them for choosing the statistic.
    delta, confidence
        As given. Each of the two bounds holds with this confidence.
    """

    mu: float
    epsilon: float
    epsilon_direct: float
    trials: int
    delta: float
    confidence: float


def epsilon_lower_bound(
    release: ReleaseFunction,
    first: NDArray[np.float64],
    second: NDArray[np.float64],
    *,
    trials: int,
    delta: float,
    confidence: float = 0.99,
) -> EpsilonBound:
    """Bound epsilon from ``trials`` releases of each of two neighbouring inputs.

    Parameters
    ----------
    release
        The mechanism. Its n releases must be independent of each other.
    first, second
        float64 [b, d], neighbours: they differ in what the guarantee's unit covers.
    trials
        Releases of either, even; at least 16 for each of the b d released numbers.
    delta
        At which epsilon is stated.
    confidence
        Chance that a mechanism that keeps its claim is not said to break it.

    Raises
    ------
    ValueError
        Too few trials, or inputs of different shape.
    """
    if first.shape != second.shape:
        raise ValueError(f"neighbours have one shape, not {first.shape} and {second.shape}")
    half = trials // 2
    zeros = np.asarray(release(first, trials), dtype=np.float64).reshape(trials, -1)
    ones = np.asarray(release(second, trials), dtype=np.float64).reshape(trials, -1)
    if half < RELEASES_PER_NUMBER // 2 * zeros.shape[1]:
        raise ValueError(f"{trials} releases are too few for {zeros.shape[1]} released numbers")
    # Chosen on one half and counted on the other: a statistic fitted to what it is judged by would
    # show differences that are none.
    direction = _fisher_discriminant(zeros[:half], ones[:half])
    # Both error rates must hold at once, so each gets half of what may go wrong.
    tail = (1 - confidence) / 2
    learnt, counted = (
        (zeros[part] @ direction, ones[part] @ direction)
        for part in (slice(half), slice(half, None))
    )
    pooled = np.concatenate(learnt)
    candidates = np.unique(np.quantile(pooled, _LEVELS))
    # Between two values rather than on one: a threshold on a mass point would misplace it.
    candidates = np.concatenate([candidates, (candidates[1:] + candidates[:-1]) / 2])
    # Limits that hold for all thresholds at once: else the luckiest is chosen, far out in a tail.
    strict = tail / len(candidates)
    best_mu, best_direct = (
        candidates[int(np.argmax(values))]
        for values in _bounds_of_rates(*_error_rate_limits(*learnt, candidates, strict), delta)
    )
    chosen = np.array([best_mu, best_direct])
    mus, directs = _bounds_of_rates(*_error_rate_limits(*counted, chosen, tail), delta)
    mu = max(0.0, float(mus[0]))
    return EpsilonBound(
        mu=mu,
        epsilon=gaussian_epsilon(1.0, delta, mu) if mu > 0 else 0.0,
        epsilon_direct=max(0.0, float(directs[1])),
        trials=trials,
        delta=delta,
        confidence=confidence,
    )


def _fisher_discriminant(
    zeros: NDArray[np.float64], ones: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return Fisher's direction: pooled covariance^-1 times the difference of means."""
    shift: NDArray[np.float64] = ones.mean(axis=0) - zeros.mean(axis=0)
    centred = np.concatenate([zeros - zeros.mean(axis=0), ones - ones.mean(axis=0)])
    covariance = centred.T @ centred / len(centred)
    scale = float(np.mean(np.diag(covariance)))
    # No noise at all: whatever differs tells the two apart.
    if scale == 0:
        return shift
    ridge = _RIDGE * scale * np.eye(len(covariance))
    return np.asarray(np.linalg.solve(covariance + ridge, shift), dtype=np.float64)


def _error_rate_limits(
    zeros: NDArray[np.float64],
    ones: NDArray[np.float64],
    thresholds: NDArray[np.float64],
    tail: float,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return upper Clopper-Pearson limits of false positives and negatives, per threshold."""
    n = len(zeros)
    # Counted in sorted values: one search for all thresholds instead of a pass over the releases
    # for each.
    false_positives = n - np.searchsorted(np.sort(zeros), thresholds, side="right")
    false_negatives = np.searchsorted(np.sort(ones), thresholds, side="right")
    first, second = (
        # k = n leaves no upper limit below 1, and the beta law no second parameter.
        np.where(k < n, beta.ppf(1 - tail, k + 1, np.maximum(n - k, 1)), 1.0)
        for k in (false_positives, false_negatives)
    )
    return first, second


def _bounds_of_rates(
    false_positive: NDArray[np.float64], false_negative: NDArray[np.float64], delta: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return lower bounds of mu, and of epsilon without a Gaussian curve; -inf where none."""
    with np.errstate(divide="ignore", invalid="ignore"):
        mus = -ndtri(false_positive) - ndtri(false_negative)
        ratios = np.maximum(
            (1 - delta - false_negative) / false_positive,
            (1 - delta - false_positive) / false_negative,
        )
        directs = np.where(ratios > 0, np.log(np.maximum(ratios, 1e-300)), -np.inf)
    return np.nan_to_num(mus, nan=-np.inf), directs
