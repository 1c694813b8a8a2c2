"""The Gaussian mechanism, exactly: what a noise of sigma costs in epsilon and delta.

Source: Balle and Wang, "Improving the Gaussian Mechanism for Differential Privacy: Analytical
Calibration and Optimal Denoising", ICML 2018, Theorem 8. Adding N(0, sigma^2 I) to a function of
L2 sensitivity D is (epsilon, delta)-DP if and only if, with mu = D / sigma,

    Phi(mu/2 - epsilon/mu) - exp(epsilon) Phi(-mu/2 - epsilon/mu) <= delta.

The classic sqrt(2 ln(1.25/delta))/epsilon is not used: its proof needs epsilon < 1.

Everything is solved in 256-bit arithmetic and rounded to float64 towards more noise or a larger
claim, so no printed figure is better than the truth.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import mpmath

__all__ = ["gaussian_delta", "gaussian_epsilon", "gaussian_mu", "gaussian_sigma"]

_CTX = mpmath.MPContext()
_CTX.prec = 256

# A bracket this narrow is far below one float64 step (2^-53).
_BRACKET = _CTX.mpf(2) ** -80

# sigma is rounded up by this factor, so that a mu = D / sigma rounded in float64 still costs no
# more than the epsilon that sigma was solved for.
_SIGMA_SLACK = 1 + _CTX.mpf(2) ** -40

# Epsilon is about mu^2 / 2, which is beyond a float soon after; mpmath's erfc overflows there too.
_MOST_MU = _CTX.mpf(10) ** 150


def gaussian_mu(sigma: float, sensitivity: float) -> float:
    """Return mu of Gaussian differential privacy: ``sensitivity / sigma``, rounded up.

    Distinguishing two neighbours is exactly as hard as N(0, 1) from N(mu, 1) (Dong, Roth and Su,
    "Gaussian Differential Privacy", 2019, Theorem 2.7).
    """
    _check_positive(sigma=sigma, sensitivity=sensitivity)
    return _up(_CTX.mpf(sensitivity) / _CTX.mpf(sigma))


@lru_cache(maxsize=4096)
def gaussian_delta(epsilon: float, sigma: float, sensitivity: float) -> float:
    """Return the smallest delta at ``epsilon`` for noise ``sigma``, rounded up to float64.

    Parameters
    ----------
    epsilon
        At least 0.
    sigma, sensitivity
        Noise standard deviation and L2 sensitivity, in the same unit; both > 0.
    """
    _check_positive(sigma=sigma, sensitivity=sensitivity)
    if not (math.isfinite(epsilon) and epsilon >= 0):
        raise ValueError(f"epsilon must be finite and at least 0, not {epsilon!r}")
    mu = _CTX.mpf(sensitivity) / _CTX.mpf(sigma)
    return _up(_delta(_CTX.mpf(epsilon), mu))


@lru_cache(maxsize=4096)
def gaussian_epsilon(sigma: float, delta: float, sensitivity: float) -> float:
    """Return the smallest epsilon at ``delta`` for noise ``sigma``, rounded up to float64.

    Infinite where that would be beyond 1e300.

    Parameters
    ----------
    sigma, sensitivity
        Noise standard deviation and L2 sensitivity, in the same unit; both > 0.
    delta
        In (0, 1).
    """
    _check_positive(sigma=sigma, sensitivity=sensitivity)
    _check_delta(delta)
    mu, target = _CTX.mpf(sensitivity) / _CTX.mpf(sigma), _CTX.mpf(delta)
    if mu > _MOST_MU:
        return math.inf
    low = _CTX.mpf(0)
    if _delta(low, mu) <= target:
        return 0.0
    # delta(epsilon) <= Phi(mu/2 - epsilon/mu) <= exp(-(epsilon/mu - mu/2)^2 / 2).
    high = mu * mu / 2 + mu * _CTX.sqrt(-2 * _CTX.log(target))
    while high - low > _BRACKET * high:
        middle = (low + high) / 2
        low, high = (low, middle) if _delta(middle, mu) <= target else (middle, high)
    return _up(high)


@lru_cache(maxsize=4096)
def gaussian_sigma(epsilon: float, delta: float, sensitivity: float) -> float:
    """Return the noise that makes a release of L2 ``sensitivity`` (epsilon, delta)-DP.

    The smallest such sigma, times 1 + 2^-40, rounded up to float64.

    Parameters
    ----------
    epsilon
        Greater than 0.
    delta
        In (0, 1).
    sensitivity
        Greater than 0; sigma is in its unit.
    """
    _check_positive(epsilon=epsilon, sensitivity=sensitivity)
    _check_delta(delta)
    exact, target = _CTX.mpf(epsilon), _CTX.mpf(delta)
    # The bound in gaussian_epsilon, solved for mu, is a mu that is small enough.
    tail = _CTX.sqrt(-2 * _CTX.log(target))
    low = 2 * exact / (_CTX.sqrt(tail * tail + 2 * exact) + tail)
    high = 2 * low
    while _delta(exact, high) <= target:
        low, high = high, 2 * high
    while high - low > _BRACKET * high:
        middle = (low + high) / 2
        low, high = (middle, high) if _delta(exact, middle) <= target else (low, middle)
    return _up(_CTX.mpf(sensitivity) / low * _SIGMA_SLACK)


def _delta(epsilon: Any, mu: Any) -> Any:
    # The two terms nearly cancel for small delta; 256 bits leave enough of the difference.
    above = _phi(mu / 2 - epsilon / mu)
    return above - _CTX.exp(epsilon) * _phi(-mu / 2 - epsilon / mu)


def _phi(x: Any) -> Any:
    return _CTX.erfc(-x / _CTX.sqrt(2)) / 2


def _up(x: Any) -> float:
    # Rounded up, never to nearest: no figure that is printed may be better than the truth.
    nearest = float(x)
    return nearest if _CTX.mpf(nearest) >= x else math.nextafter(nearest, math.inf)


def _check_positive(**values: float) -> None:
    for name, value in values.items():
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"{name} must be finite and greater than 0, not {value!r}")


def _check_delta(delta: float) -> None:
    if not 0 < delta < 1:
        raise ValueError(f"delta must lie in (0, 1), not {delta!r}")
