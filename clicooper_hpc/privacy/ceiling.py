"""Upper bounds on what any attacker can achieve, given by the privacy guarantee itself.

A measured attack above its ceiling proves a bug in the mechanism, most likely in the sensitivity.
"""

from __future__ import annotations

import math

from scipy.special import ndtr, ndtri

__all__ = [
    "gaussian_ceiling",
    "local_dp_ceiling",
    "membership_ceiling",
    "reconstruction_ceiling",
]


def local_dp_ceiling(classes: int, epsilon: float, delta: float = 0.0) -> float:
    """Return the best accuracy of guessing a balanced k-class label from one released row.

    (e^epsilon + (k-1) delta) / (e^epsilon + k-1): sum P[A = y | y] <= e^epsilon P[A = y | y'] +
    delta over y'. Needs only the (epsilon, delta) of the sample under replace-one.
    """
    if classes < 2:
        raise ValueError(f"a label has at least two classes, not {classes}")
    # Divided by e^epsilon: a sample-level epsilon in the thousands must not overflow.
    others = (classes - 1) * math.exp(-epsilon)
    return min(1.0, (1 + others * delta) / (1 + others))


def gaussian_ceiling(classes: int, radius: float, sigma: float) -> float:
    """Return the same for Gaussian noise on rows of norm at most ``radius``; much tighter.

    Phi(Phi^-1(1/k) + C / sigma): test the joint law against the product with N(0, sigma^2 I),
    under which accuracy is 1/k. By the Neyman-Pearson lemma a row of norm r that is guessed with
    chance a under the reference is guessed with at most Phi(Phi^-1(a) + r / sigma) under the truth;
    that is concave in a, so Jensen's inequality carries it to the average.

    Parameters
    ----------
    classes
        k, balanced.
    radius
        L2 bound of a clipped row: C, or c sqrt(d) for the element unit.
    sigma
        Noise standard deviation in the same unit.
    """
    if classes < 2:
        raise ValueError(f"a label has at least two classes, not {classes}")
    return float(ndtr(ndtri(1 / classes) + radius / sigma))


def membership_ceiling(false_positive_rate: float, mu: float) -> float:
    """Return the best true-positive rate of membership inference: Phi(Phi^-1(FPR) + mu).

    Dong, Roth and Su, "Gaussian Differential Privacy", 2019: the trade-off curve itself.
    """
    return float(ndtr(ndtri(false_positive_rate) + mu))


def reconstruction_ceiling(blind_chance: float, mu: float) -> float:
    """Return the best chance of a reconstruction that a blind guess gets with ``blind_chance``.

    Phi(Phi^-1(kappa) + mu), whatever counts as success and whatever the attacker knows beforehand:
    kappa is what the best guess without the release reaches. Hayes, Mahloujifar and Balle,
    "Bounding training data reconstruction in DP-SGD", NeurIPS 2023, Theorem 2 (the blow-up function
    of a Gaussian). The argument is that of `gaussian_ceiling`: the release is compared with one
    that does not depend on the sample, under which success is at most kappa; the function is
    concave, so the bound holds on average over samples. Equal for two opposite rows of norm C.

    Parameters
    ----------
    blind_chance
        kappa, in (0, 1).
    mu
        Distance of a sample's release from one without it (zero row, or sample left out), over
        sigma.
    """
    if not 0 < blind_chance < 1:
        raise ValueError(f"the chance of a blind guess lies in (0, 1), not {blind_chance!r}")
    return float(ndtr(ndtri(blind_chance) + mu))
