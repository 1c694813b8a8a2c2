"""Whether released noise is what was promised: right grid, right law, every bit of it, fresh.

What a linear statistic cannot see. Low bits of floating-point noise tell which of two rows was
released (Mironov, "On Significance of the Least Significant Bits", 2012, for Laplace; Jin et al.,
"Are We There Yet? Timing and Floating-Point Attacks on Differential Privacy Systems", 2022, for
Gaussian noise): a released value that no noise could have made of the other row ends all doubt.
Values on one fixed grid, taken by the rounded Gaussian with their exact chances, have no low bits.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri
from scipy.stats import chisquare, nbinom, poisson

from clicooper_hpc.models.row_independence import RowPlacement, keeps_row_independence
from clicooper_hpc.privacy.rounded_gaussian import rounded_gaussian

__all__ = ["NoiseCheck", "check_batch_mates", "check_noise", "check_noise_correlation"]

# Chance of a false alarm of each test.
_ALARM: Final = 1e-9
_BINS: Final = 64


@dataclass(frozen=True, slots=True)
class NoiseCheck:
    """What the noise of one row, released often, looks like.

    Parameters
    ----------
    off_grid
        Share of values that are no multiple of the grid.
    distinct, expected_distinct
        Number of different values, and how many the rounded Gaussian shows on average.
    shape_p
        p-value of a chi-square test of 64 bins against the rounded Gaussian.
    repeated_rows, expected_repeats, repeats_variance
        Pairs of releases with all numbers equal, and the mean and variance of their number for
        independent noise.
    """

    off_grid: float
    distinct: int
    expected_distinct: float
    shape_p: float
    repeated_rows: int
    expected_repeats: float
    repeats_variance: float

    @property
    def faults(self) -> tuple[str, ...]:
        """What is wrong, in words; empty if nothing is."""
        found = []
        if self.off_grid > 0:
            found.append("values off the grid")
        # Occupied cells are negatively associated, so their number varies less than a Poisson's.
        if poisson.cdf(self.distinct, self.expected_distinct) < _ALARM:
            found.append("too few different values")
        if self.shape_p < _ALARM:
            found.append("not the promised distribution")
        if self.repeated_rows and self._chance_of_repeats() < _ALARM:
            found.append("repeated noise")
        return tuple(found)

    def _chance_of_repeats(self) -> float:
        """Return the chance of as many repeats or more."""
        mean, more = self.expected_repeats, self.repeats_variance - self.expected_repeats
        # Of few numbers a row, likely values make many pairs at once: the law of mean and variance.
        if more > 1e-6 * mean:
            law = nbinom(mean**2 / more, mean / self.repeats_variance)
            return float(law.sf(self.repeated_rows - 1))
        return float(poisson.sf(self.repeated_rows - 1, mean))


def check_noise(
    released: NDArray[np.float32], row: NDArray[np.float64], *, sigma: float, grid: float
) -> NoiseCheck:
    """Compare the noise of n releases of one row with the law it should have.

    Parameters
    ----------
    released
        float32 [n, d].
    row
        float64 [d], the clean row as cut to the grid; the zero row is the simplest.
    sigma, grid
        Standard deviation before rounding and spacing, in units of the released numbers.
    """
    # In grid steps, so that what is on the grid is a whole number, exactly in float64.
    steps = (released.astype(np.float64) - row) / grid
    whole = np.rint(steps)
    values, counts = np.unique(whole, return_counts=True)
    scale = sigma / grid
    # Beyond ten standard deviations a value has a chance below 2^-75.
    support = np.arange(-math.ceil(10 * scale), math.ceil(10 * scale) + 1, dtype=np.int64)
    chances = rounded_gaussian(scale).rounded_gaussian_probability(support)
    _, rows = np.unique(whole, axis=0, return_counts=True)
    n, d = released.shape
    # Chances that two rows are equal, and three: pairs with a row in common go together.
    two, three = (float((chances**power).sum()) ** d for power in (2, 3))
    pairs = n * (n - 1) / 2
    return NoiseCheck(
        off_grid=float(np.mean(steps != whole)),
        distinct=len(np.unique(steps)),
        expected_distinct=float(-np.expm1(whole.size * np.log1p(-chances)).sum()),
        shape_p=_noise_shape(values, counts, scale),
        repeated_rows=int((rows * (rows - 1) // 2).sum()),
        expected_repeats=pairs * two,
        repeats_variance=pairs * (two - two**2 + 2 * (n - 2) * (three - two**2)),
    )


def check_noise_correlation(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """Return the z-score of the correlation of two releases' noise, 0 on average if independent.

    Parameters
    ----------
    first, second
        Noise of the same shape, released minus clean; of two releases of the same samples, or of
        two samples. Scale does not matter: reuse at another sigma shows as well.
    """
    one, two = first.ravel() - first.mean(), second.ravel() - second.mean()
    # Under independence the correlation of n pairs has standard deviation 1 / sqrt(n).
    return float(one @ two / np.sqrt((one @ one) * (two @ two)) * math.sqrt(one.size))


def check_batch_mates(
    front: Callable[[NDArray[np.float32]], NDArray[np.float32]], inputs: NDArray[np.float32]
) -> bool:
    """Tell whether any row's bits change with the rows it is computed with.

    Each row of ``inputs`` [n >= 2, ...] is computed alone and compared with itself among all, and
    among all in reverse order.
    """
    order = range(len(inputs))
    placements = [
        RowPlacement(inputs, order, order),
        RowPlacement(inputs[::-1].copy(), order, order[::-1]),
    ]
    return not keeps_row_independence(
        front,
        np.concatenate([front(inputs[i : i + 1]) for i in order]),
        placements,
        # Bytes, not numbers: these tell -0 from 0, and one NaN is like another.
        same=lambda one, other: one.tobytes() == other.tobytes(),
    )


def _noise_shape(
    values: NDArray[np.float64], counts: NDArray[np.int64], sigma_over_grid: float
) -> float:
    """Return the chi-square p-value in bins that hold about as much of the rounded Gaussian."""
    # Half a step off the grid, so that no value lies on an edge; equal chances, since small bins
    # break the chi-square law.
    edges = np.unique(np.rint(sigma_over_grid * ndtri(np.arange(1, _BINS) / _BINS)) + 0.5)
    expected = np.diff(np.concatenate([[0.0], ndtr(edges / sigma_over_grid), [1.0]]))
    seen = np.bincount(np.searchsorted(edges, values), weights=counts, minlength=len(expected))
    return float(chisquare(seen, expected * counts.sum()).pvalue)
