"""Moments of all samples, noised once: class sums, second moment and sizes of the classes.

**Mechanism.** Each row is clipped to norm 1 and cut towards zero to a grid. With x the cut row of a
sample and e_y the unit vector of its class, the samples' parts

    T(x, y) = ( x (x) e_y,  x x^T / sqrt(2),  e_y / sqrt(2) )

are added up and released once with Gaussian noise of one sigma in every coordinate, where the
symmetric x x^T stands as its diagonal and sqrt(2) times its upper triangle, so that the norm of the
vector is that of the matrix.

**Sensitivity** 2 under replace-one, the same as that of the class sums alone. With t = <x, x'> for
rows of norm r and s, |T(x, y) - T(x', y')|^2 is, for y = y',

    |x - x'|^2 + |x x^T - x' x'^T|^2 / 2  <=  (r + s)^2 (1 + (r - s)^2 / 2)  <=  4,

and otherwise r^2 + s^2 + (r^4 + s^4 - 2 t^2) / 2 + 1 <= 4. (Equal at r = s = 1: opposite rows of
one class, t = -1, or orthogonal rows of two.) So the second moment and the sizes are free. Labels
are covered as rows are. Adding or removing a sample moves it by at most sqrt(1 + 1/2 + 1/2).
Class sums alone (`clicooper_hpc.privacy.class_sums`) move by 2 and by 1.

**On integers.** x is a multiple of the grid g, so sums are multiples of g, products of g^2, and
sizes of g = 1 / 2^k too: all are summed as integers. Noise is rounded to the lattice of its block:
integer plus rounded noise is the rounded sum, a post-processing of the real Gaussian mechanism;
nothing is added for the grid or for floating point. g is chosen so that the noise of the products
has at most 2^18 steps.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clicooper_hpc.digests import Digest
from clicooper_hpc.privacy.class_sums import grid_class_sums
from clicooper_hpc.privacy.clipping import clip_rows, clip_to_grid
from clicooper_hpc.privacy.master_key import MasterKey
from clicooper_hpc.privacy.noise import NoiseStream, ReleaseContext
from clicooper_hpc.privacy.release_spec import ReleaseSpec, solve_release_spec
from clicooper_hpc.privacy.sensitivity import Guarantee

__all__ = [
    "MOST_MOMENT_NUMBERS",
    "MomentSums",
    "Moments",
    "add_remove_sensitivity",
    "moments_context",
    "noised_moments",
    "solve_moments_spec",
]

#: Numbers of a row: of its second moment there are half a million then.
MOST_MOMENT_NUMBERS = 1024
# Steps of the noise of the products: the sampler keeps a table of nine times as many numbers.
_MOST_STEPS = 2.0**18


@dataclass(frozen=True, slots=True, eq=False)
class Moments:
    """What is released of ``samples`` rows of p numbers in K classes.

    Attributes
    ----------
    sums
        float64 [K, p]: sums of rows by class.
    second
        float64 [p, p], symmetric: sum of x x^T.
    sizes
        float64 [K]: samples by class. Noised, they may be negative.
    samples
        Their number, which is public.
    sigma
        Noise in each number of ``sums``, and in ``second`` off its diagonal; on it, and in
        ``sizes``, it is sqrt(2) times that. 0 with privacy off.
    """

    sums: NDArray[np.float64]
    second: NDArray[np.float64]
    sizes: NDArray[np.float64]
    samples: int
    sigma: float


class MomentSums:
    """Adds up the parts of samples, block by block, without noise; they must not leave the owner.

    Parameters
    ----------
    classes, dimension
        K and p.
    spec
        From `solve_moments_spec`; None with privacy off, where sums are float64 and not exact.
    """

    def __init__(self, classes: int, dimension: int, spec: ReleaseSpec | None) -> None:
        self._spec = spec
        kind: Any = np.float64 if spec is None else np.int64
        self.sums = np.zeros((classes, dimension), dtype=kind)
        self.second = np.zeros((dimension, dimension), dtype=kind)
        self.sizes = np.zeros(classes, dtype=np.int64)
        self.samples = 0

    def add_rows(self, rows: NDArray[Any], labels: NDArray[np.int64]) -> None:
        """Add float32 or float64 ``rows`` [n, p] of classes ``labels`` int64 [n]; clipped here.

        Raises
        ------
        DataError
            When a row holds NaN or infinity.
        """
        classes = len(self.sizes)
        if self._spec is None:
            clipped = clip_rows(rows, _guarantee(rows.shape[1], 1.0, 0.5))
            np.add.at(self.sums, labels, clipped)
            self.second += clipped.T @ clipped
        else:
            self.sums += grid_class_sums(rows, labels, classes, self._spec)
            whole = clip_to_grid(rows, self._spec)
            # Floats multiply fast, and exactly: every sum of a block is below 2^53.
            exact = whole.astype(np.float64)
            self.second += (exact.T @ exact).astype(np.int64)
        self.sizes += np.bincount(labels, minlength=classes)
        self.samples += len(rows)


def solve_moments_spec(dimension: int, *, epsilon: float, delta: float) -> ReleaseSpec:
    """Solve the promise to every sample, replace-one, for rows of ``dimension`` numbers.

    Raises
    ------
    UsageError
        There is no such mechanism.
    """
    spec = solve_release_spec(_guarantee(dimension, epsilon, delta))
    # A power of two: values stay exact. Products have a grid of g^2, see the head of this file. It
    # stays below 1: noise above 1,700 has been refused by now.
    least = math.sqrt(spec.sigma / _MOST_STEPS)
    grid = max(spec.grid, math.ldexp(1.0, math.ceil(math.log2(least))))
    reason = "2 C: class sums, second moment and sizes together (docs/privacy.md)"
    return replace(spec, grid=grid, sensitivity_reason=reason)


def add_remove_sensitivity(*, sums_alone: bool = False, gradient_share: float = 0.0) -> float:
    """Return how far a sample more or less moves the release, rounded up.

    ``sums_alone``: of class sums without second moment and sizes. ``gradient_share``: the part of
    mu^2 that pays for rounds of gradients, where the noise is that of the whole promise.
    """
    # Class sums and gradients move by half of what they do under replace-one, moments by more.
    return 1.0 if sums_alone else math.sqrt(2 - gradient_share) * (1 + 2.0**-50)


def moments_context(front: Digest, data: Digest, spec: ReleaseSpec) -> ReleaseContext:
    """Return what the release is: of these rows behind this front, with this mechanism."""
    return ReleaseContext("moments", front, data, spec)


def noised_moments(sums: MomentSums, context: ReleaseContext, master: MasterKey) -> Moments:
    """Return the moments with noise: the same bits for the same sums, context and key.

    Never call it for other sums with the same context: their difference would have no noise.
    """
    spec, classes, p = context.spec, len(sums.sizes), sums.second.shape[0]
    wide = math.sqrt(2) * spec.sigma
    grid = spec.grid
    second = _noise(master, context, "second moment", spec.sigma, grid**2, (p, p))
    # One number for each pair: the lower triangle is the mirror image of the upper one.
    upper = np.triu(second, 1)
    diagonal = _noise(master, context, "second moment, diagonal", wide, grid**2, (1, p))[0]
    whole = sums.second + upper + upper.T + np.diag(diagonal)
    return Moments(
        sums=(sums.sums + _noise(master, context, "class sums", spec.sigma, grid, (classes, p)))
        * np.float64(grid),
        second=whole * np.float64(grid**2),
        sizes=(
            sums.sizes * round(1 / grid)
            + _noise(master, context, "sizes", wide, grid, (1, classes))[0]
        )
        * np.float64(grid),
        samples=sums.samples,
        sigma=spec.sigma,
    )


def _guarantee(dimension: int, epsilon: float, delta: float) -> Guarantee:
    return Guarantee("sample", "replace-one", 1.0, dimension, epsilon, delta)


def _noise(
    master: MasterKey,
    context: ReleaseContext,
    block: str,
    sigma: float,
    grid: float,
    shape: tuple[int, int],
) -> NDArray[np.int64]:
    """Return the noise of one block in its own grid steps, int64 ``shape``."""
    promise = replace(context.spec.guarantee, dimension=shape[1])
    spec = replace(context.spec, guarantee=promise, sigma=sigma, grid=grid)
    # A context of its own for each block, or two blocks would have the same words.
    own = replace(context, split=f"{context.split}: {block}", spec=spec)
    return NoiseStream(master, own).draw_noise(np.arange(shape[0])).astype(np.int64)
