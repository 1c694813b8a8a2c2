"""Sums of gradients of all samples, noised once a round; with moments they fill one promise.

**Mechanism.** The gradient of the softmax loss of a linear model at a sample is the outer product
x r^T of its row x (a last number of it constant, for the intercept) and its residual r, the class
probabilities less the true class's unit vector. x is clipped to norm A, r to norm 1, both are cut
towards zero to a grid, and the outer products of all samples are added up as integers. The sum is
rounded down to the lattice c of the noise and gets one draw of the rounded Gaussian.

**Sensitivity** 2 under replace-one, whatever the row, the label or the model: |x r^T| = |x| |r|
is at most A, so two samples' parts are at most 2 A apart. Rounding down moves two sums apart by
less than c in each of their d numbers, so by less than c sqrt(d); A = 1 - c sqrt(d) pays for it:
2 A + c sqrt(d) <= 2. Adding or removing a sample moves the sum by at most A + c sqrt(d) = 1.
Nothing is divided by a count of a class: the number of samples is public, that of a class is not.

**Rounds.** Each round's model follows from what was released before, so rounds compose as Gaussian
mechanisms do (Dong, Roth and Su 2019, Corollary 3.3: adaptively, and exactly). With sigma the noise
that one release of sensitivity 2 needs for the whole promise, a share s of 1 / sigma^2 pays for the
T rounds and the rest for the moments (`clicooper_hpc.privacy.moments`):

    sigma_0 = sigma / sqrt(1 - s),    sigma_g = sigma sqrt(T / s),
    (2 / sigma_0)^2 + T (2 / sigma_g)^2 = (2 / sigma)^2.

Under add-remove moments move by sqrt(2) and every round by 1: (2 (1 - s) + s) / sigma^2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clicooper_hpc.digests import Digest
from clicooper_hpc.errors import UsageError
from clicooper_hpc.privacy.clipping import clip_rows, clip_to_grid
from clicooper_hpc.privacy.gaussian_mechanism import gaussian_epsilon
from clicooper_hpc.privacy.master_key import MasterKey
from clicooper_hpc.privacy.moments import solve_moments_spec
from clicooper_hpc.privacy.noise import NoiseStream, ReleaseContext
from clicooper_hpc.privacy.release_spec import ReleaseSpec, solve_release_spec
from clicooper_hpc.privacy.sensitivity import Guarantee

__all__ = [
    "GradientSum",
    "SplitPromise",
    "noised_gradient_sum",
    "round_context",
    "solve_split_promise",
]

# Both factors are cut to it: fine enough for probabilities of a thousand classes.
_GRID = 2.0**-12
# Steps of the noise: the sampler keeps a table of nine times as many numbers.
_MOST_STEPS = 2.0**18
# Of the clip bound of rows; more would be lost to rounding than is worth summing.
_MOST_ROUNDING = 0.5


@dataclass(frozen=True, slots=True)
class SplitPromise:
    """One promise to every sample, filled by moments and by rounds of gradients.

    Attributes
    ----------
    whole
        What the promise would be solved to for one release of sensitivity 2.
    moments
        Of the moments; its guarantee states their own epsilon.
    gradients
        Of the gradients of one round, likewise.
    rounds
        Their number.
    """

    whole: ReleaseSpec
    moments: ReleaseSpec
    gradients: ReleaseSpec
    rounds: int


def solve_split_promise(
    dimension: int, classes: int, *, epsilon: float, delta: float, rounds: int, share: float
) -> SplitPromise:
    """Solve the promise to every sample, replace-one, for rows of ``dimension`` numbers.

    Parameters
    ----------
    dimension, classes
        Numbers of a row of moments, and classes; gradients have [dimension + 1, classes] numbers.
    epsilon, delta
        Of everything together.
    rounds
        At least 1.
    share
        In (0, 1): the part of mu^2 that pays for the rounds.

    Raises
    ------
    UsageError
        There is no such mechanism.
    """
    whole = solve_moments_spec(dimension, epsilon=epsilon, delta=delta)
    parts = []
    for sigma in (whole.sigma / math.sqrt(1 - share), whole.sigma * math.sqrt(rounds / share)):
        # A part's own epsilon, rounded up by less than the solved sigma is rounded up by.
        own = gaussian_epsilon(sigma, delta, 2.0)
        if own == 0:
            raise _too_little(
                f"of epsilon {epsilon:.6g} in {rounds} rounds has a part whose epsilon is 0 at "
                f"delta {delta:.6g}"
            )
        parts.append(own)
    moments = solve_moments_spec(dimension, epsilon=parts[0], delta=delta)
    one = solve_release_spec(Guarantee("sample", "replace-one", 1.0, classes, parts[1], delta))
    least = max(one.sigma / _MOST_STEPS, _GRID**2)
    gradients = replace(
        one,
        grid=math.ldexp(1.0, math.ceil(math.log2(least))),
        sensitivity_reason="2 C: gradients of one round (docs/privacy.md)",
    )
    if _rounding(gradients, dimension + 1) > _MOST_ROUNDING:
        raise _too_little(
            f"of epsilon {epsilon:.6g} in {rounds} rounds leaves so much noise that its lattice is "
            "coarser than the gradients"
        )
    reason = "2 C each: moments once, gradients a round (docs/privacy.md)"
    whole = replace(whole, sensitivity_reason=reason)
    return SplitPromise(whole, moments, gradients, rounds)


class GradientSum:
    """Adds up the gradients of samples, block by block, without noise; it must not leave the owner.

    Parameters
    ----------
    width, classes
        Numbers of a row, with the one for the intercept, and of a residual.
    spec
        From `solve_split_promise`; None with privacy off, where sums are float64 and not exact.
    """

    def __init__(self, width: int, classes: int, spec: ReleaseSpec | None) -> None:
        self._spec = spec
        kind: Any = np.float64 if spec is None else np.int64
        self._sum = np.zeros((width, classes), dtype=kind)
        bound = 1.0 if spec is None else 1.0 - _rounding(spec, width)
        self._row, self._residual = _cut(width, bound), _cut(classes, 1.0)

    def add_gradients(self, rows: NDArray[Any], residuals: NDArray[Any]) -> None:
        """Add outer products of ``rows`` [n, width] and ``residuals`` [n, classes], clipped here.

        Both float32 or float64; at most 100,000 at a time.

        Raises
        ------
        DataError
            When a number is NaN or infinite.
        """
        row, residual = self.clipped_factors(rows, residuals)
        if self._spec is None:
            self._sum += row.T @ residual
            return
        # Floats multiply fast, and exactly: every product is at most 2^24 steps of the lattice of
        # products, their sums below 2^53.
        if len(rows) > 100_000:
            raise ValueError(f"{len(rows)} gradients at a time are too many")
        self._sum += ((row.T @ residual) / _GRID**2).astype(np.int64)

    def clipped_factors(
        self, rows: NDArray[Any], residuals: NDArray[Any]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return rows [n, width] and residuals [n, classes] as they are multiplied, float64."""
        both = (rows, self._row), (residuals, self._residual)
        clipped = [
            clip_rows(part, cut.guarantee)
            if self._spec is None
            else clip_to_grid(part, cut) * np.float64(_GRID)
            for part, cut in both
        ]
        return clipped[0].astype(np.float64), clipped[1].astype(np.float64)

    def lattice_sum(self) -> NDArray[np.int64]:
        """Return the sum rounded down to the lattice of its noise, in its steps [width, classes].

        It has no noise.
        """
        if self._spec is None:
            raise ValueError("without privacy there is no lattice")
        steps: NDArray[np.int64] = self._sum // round(self._spec.grid / _GRID**2)
        return steps

    def plain_sum(self) -> NDArray[np.float64]:
        """Return the sum without noise, float64 [width, classes]: privacy off, no guarantee."""
        if self._spec is not None:
            raise ValueError("with privacy on a sum needs its noise")
        return self._sum.astype(np.float64)


def round_context(
    number: int, model: Digest, front: Digest, data: Digest, spec: ReleaseSpec
) -> ReleaseContext:
    """Return what round ``number`` releases: gradients of these rows at this model.

    The model is part of it, or gradients at two models could get the same noise.
    """
    return ReleaseContext(f"gradients, round {number}, model {model.hex}", front, data, spec)


def noised_gradient_sum(
    gradients: GradientSum, context: ReleaseContext, master: MasterKey
) -> NDArray[np.float64]:
    """Return the sum with noise, float64 [width, classes]; same sum, context and key, same bits.

    Never call it for another sum with the same context: their difference would have no noise.
    """
    steps = gradients.lattice_sum()
    noise = NoiseStream(master, context).draw_noise(np.arange(len(steps), dtype=np.int64))
    return (steps + noise).astype(np.float64) * np.float64(context.spec.grid)


def _rounding(spec: ReleaseSpec, width: int) -> float:
    """Return c sqrt(d): how far rounding to the lattice may move two sums apart."""
    return spec.grid * math.sqrt(width * spec.guarantee.dimension) * (1 + 2.0**-40)


def _cut(dimension: int, bound: float) -> ReleaseSpec:
    """Return how vectors are clipped to norm ``bound`` and cut; its noise is not used."""
    spec = solve_release_spec(Guarantee("sample", "replace-one", bound, dimension, 1.0, 0.5))
    return replace(spec, grid=_GRID)


def _too_little(what: str) -> UsageError:
    return UsageError(
        f"the promise {what}",
        where="release.rounds",
        remedy="Choose a larger epsilon, fewer rounds or another release.gradient_share.",
    )
