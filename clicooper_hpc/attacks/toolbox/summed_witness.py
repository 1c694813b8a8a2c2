"""A linear statistic of a summed release that tells how many of its samples have a property.

Each sample adds its part T(x, y) (`clicooper_hpc.attacks.toolbox.summed_parts`) to the release, so
a linear statistic w of the release is the sum of <w, T> over samples, and noise. Between two rates
of the property it is most telling, by the likelihood ratio of Gaussians of one covariance, for

    w = (n C + sigma^2 I)^-1 (E[T | with] - E[T | without]),

with C the covariance of T within samples with the property and within those without. Learnt on
images of the attacker's own; w is a combination of their parts, so that only inner products of
these are ever needed (the kernel trick). What fewer images than T has numbers say of C asks for a
ridge besides sigma^2: of a few, the one is taken under which a share can be told best.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clicooper_hpc.attacks.harness.summed_release import SummedRelease
from clicooper_hpc.attacks.toolbox.summed_parts import shared_kernel, shared_with_release
from clicooper_hpc.attacks.toolbox.summed_rows import LabelledRows

__all__ = ["SummedWitness", "fit_summed_witness"]

# Of the mean squared length of a part.
_RIDGES = (1e-3, 1e-2, 1e-1, 1.0, 10.0)
_BLOCK = 2048


@dataclass(frozen=True, slots=True, eq=False)
class SummedWitness:
    """The statistic sum_i weights[i] <release, T(own[i])>.

    Parameters
    ----------
    own
        The attacker's samples that it is a combination of, [r].
    weights
        float64 [r].
    with_mean, without_mean
        What a sample with the property adds to it on average, and one without.
    spread
        Variance of what a sample adds, within either kind.
    noise
        Standard deviation of the noise of the release in it.
    checked
        How many samples the means and the spread are of.
    """

    own: LabelledRows
    weights: NDArray[np.float64]
    with_mean: float
    without_mean: float
    spread: float
    noise: float
    checked: int

    def of_release(self, release: SummedRelease) -> float:
        """Return the statistic of a release."""
        return float(shared_with_release(release, self.own) @ self.weights)

    def of_samples(self, samples: LabelledRows, blocks: SummedRelease) -> NDArray[np.float64]:
        """Return what each sample adds to it, float64 [m]; ``blocks``: a release with them."""
        # Some at a time: the kernel of all need not fit into memory.
        parts = [
            shared_kernel(samples.take(at), self.own, blocks) @ self.weights
            for at in np.array_split(np.arange(len(samples)), 1 + len(samples) // _BLOCK)
        ]
        return np.concatenate(parts)

    def share_of(self, release: SummedRelease, expected: float) -> float:
        """Return the share of a release's samples with the property, in [0, 1].

        Drawn towards the ``expected`` share as far as the statistic is uncertain, from a share that
        could be anything.
        """
        apart, n = self.with_mean - self.without_mean, release.samples
        known = 1 / (1 + 12 * self.error_of_share(n) ** 2)
        if not known:
            return expected
        raw = (self.of_release(release) / n - self.without_mean) / apart
        return float(np.clip(expected + known * (raw - expected), 0.0, 1.0))

    def error_of_share(self, samples: int) -> float:
        """Return the standard error of the share of so many samples, before it is drawn.

        Infinite where the statistic tells nothing.
        """
        apart = self.with_mean - self.without_mean
        error = self.spread / samples + self.spread / self.checked + (self.noise / samples) ** 2
        return math.sqrt(error) / abs(apart) if apart else math.inf


def fit_summed_witness(
    known: LabelledRows, has: NDArray[np.bool_], release: SummedRelease, samples: int
) -> SummedWitness | None:
    """Fit to ``known`` rows of the attacker's own, of which ``has`` bool [m] have the property.

    Every second one is kept for the means, on which the statistic was not fitted. ``release``: its
    blocks and its noise; ``samples``: how many it is of. None where one kind is missing in a half.
    """
    learn, check = np.arange(0, len(known), 2), np.arange(1, len(known), 2)
    if any(not 0 < has[half].sum() < len(half) for half in (learn, check)):
        return None
    own, kinds = known.take(learn), has[learn]
    shares = np.stack([kinds / kinds.sum(), ~kinds / (~kinds).sum()])
    apart = shares[0] - shares[1]
    kernel = shared_kernel(own, own, release)
    # Each part less the mean of its kind.
    within = np.eye(len(own)) - shares[np.where(kinds, 0, 1)]
    spread = within @ kernel @ within.T
    sizes, axes = np.linalg.eigh(spread)
    wanted = axes.T @ (within @ (kernel @ apart))
    noise = len(own) * release.sigma**2 / samples
    shared = shared_kernel(known.take(check), own, release)
    found = []
    for ridge in _RIDGES:
        floor = noise + ridge * float(np.diag(kernel).mean())
        weights = apart - within.T @ (axes @ (wanted / (np.maximum(sizes, 0.0) + floor)))
        added = shared @ weights
        first, second = added[has[check]], added[~has[check]]
        inside = np.concatenate([first - first.mean(), second - second.mean()])
        found.append(
            SummedWitness(
                own,
                weights,
                float(first.mean()),
                float(second.mean()),
                float(np.square(inside).mean()),
                release.sigma * float(np.sqrt(max(weights @ kernel @ weights, 0.0))),
                len(check),
            )
        )
    return min(found, key=lambda one: one.error_of_share(samples))
