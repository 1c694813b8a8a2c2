"""The Gaussian rounded to integers, sampled exactly.

R = round(N(0, s^2)). For an integer row n, n + R = round(n + N): the released integers are a
post-processing of the ideal, real-valued Gaussian mechanism, so its guarantee holds to the letter
and the low bits of floating-point noise (Mironov 2012) do not exist.

Inversion: |R| is the least k with U < F(k), F(k) = P[|N| < k + 1/2] = erf((k + 1/2) / (s sqrt 2)),
U uniform on [0, 1). Of a 64-bit word the top 63 bits begin U, the lowest is the sign. A float64
table of F decides whenever U is farther than 2^-45 from every F(k) nearby; the table's error is
below 2^-49 and is measured against 200-bit arithmetic when a table is built. The rest, about one
number in 10^8, is compared in arithmetic as long as it takes, drawing further bits of U where 63
do not settle it. The result has exactly the law of R; nothing is left to charge to delta, neither
for the table nor for a cut tail, and it does not depend on the last bits of a maths library.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import lru_cache

import mpmath
import numpy as np
from numpy.typing import NDArray
from scipy.special import erfc, ndtr

from clicooper_hpc.errors import EnvironmentUnfitError

__all__ = ["RoundedGaussian", "rounded_gaussian"]

_BITS = 63
_ONE = np.uint64(1)
# In units of 2^-63. Closer than this to a threshold, exact arithmetic decides.
_CLOSE = 1 << 18
_TRUSTED = _CLOSE >> 4
# Exact comparisons carry this many bits beyond those of U, the last 32 of them in doubt.
_GUARD, _ERROR = 64, 1 << 32

# U's words beyond the first, of the number at a flat position.
MoreBits = Callable[[int], Iterator[int]]


class RoundedGaussian:
    """Sampler of round(N(0, s^2)).

    Parameters
    ----------
    sigma_over_grid
        s, in integer steps; at least 1/2.
    """

    __slots__ = ("_shift", "_start", "_table", "sigma_over_grid")

    def __init__(self, sigma_over_grid: float) -> None:
        if not 0.5 <= sigma_over_grid < 2**24:
            raise ValueError(f"s must lie in [1/2, 2^24), not {sigma_over_grid!r}")
        self.sigma_over_grid = sigma_over_grid
        # P[|N| > 9.2 s] < 2^-63: beyond it every U is close to the last entry.
        steps = np.arange(math.ceil(9.2 * sigma_over_grid) + 1, dtype=np.float64)
        outside = np.ldexp(erfc((steps + 0.5) / (sigma_over_grid * math.sqrt(2))), _BITS)
        # From the tail, by erfc: 1 - erf would lose all its digits there.
        table = np.uint64(1 << _BITS) - np.rint(outside).astype(np.uint64)
        self._table: NDArray[np.uint64] = np.maximum.accumulate(table)
        _check_table(self._table, sigma_over_grid)
        # First guess by the top bits of U: number of entries at or below the bucket's start.
        bits = min(20, max(8, math.ceil(math.log2(16 * sigma_over_grid))))
        self._shift = np.uint64(_BITS - bits)
        starts = np.arange(1 << bits, dtype=np.uint64) << self._shift
        self._start = np.searchsorted(self._table, starts, side="right").astype(np.int32)

    def __repr__(self) -> str:
        return f"RoundedGaussian(sigma_over_grid={self.sigma_over_grid!r})"

    def sample_rounded_gaussian(
        self, words: NDArray[np.uint64], more: MoreBits
    ) -> NDArray[np.int32]:
        """Turn uniform words into samples of R.

        Parameters
        ----------
        words
            uint64, any shape.
        more
            Given a flat position in ``words``, the further words of that number. Asked only where
            the first word does not decide.

        Returns
        -------
        NDArray[np.int32]
            Same shape.
        """
        flat = words.reshape(-1)
        uniform = flat >> _ONE
        guess = self._start[(uniform >> self._shift).astype(np.int64)]
        guess += self._table[np.minimum(guess, self._table.size - 1)] <= uniform
        unsure = np.flatnonzero(~self._clear(uniform, guess))
        if unsure.size:
            found = np.searchsorted(self._table, uniform[unsure], side="right").astype(np.int32)
            # Float64 decides nearly all; about one number in 10^8 takes exact arithmetic, so that
            # no bit hangs on the maths library.
            for i in np.flatnonzero(~self._clear(uniform[unsure], found)).tolist():
                position = int(unsure[i])
                found[i] = self._decide(int(uniform[position]), more(position))
            guess[unsure] = found
        # The sign is a bit of its own, and U has the other 63.
        negative = (flat & _ONE).astype(np.bool_)
        np.negative(guess, out=guess, where=negative)
        return guess.reshape(words.shape)

    def rounded_gaussian_probability(self, values: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return P[R = value] to float64 accuracy, also far in the tail."""
        low, high = np.abs(values) - 0.5, np.abs(values) + 0.5
        inside: NDArray[np.float64] = ndtr(-low / self.sigma_over_grid)
        return np.asarray(inside - ndtr(-high / self.sigma_over_grid), dtype=np.float64)

    def _clear(self, uniform: NDArray[np.uint64], guess: NDArray[np.int32]) -> NDArray[np.bool_]:
        """Tell where ``guess`` is |R| beyond doubt: U well between two neighbouring entries."""
        last = self._table.size - 1
        below = np.where(guess > 0, self._table[guess - 1], 0)
        above = self._table[np.minimum(guess, last)]
        close = np.uint64(_CLOSE)
        high_enough = (guess == 0) | ((uniform >= below) & (uniform - below > close))
        clear: NDArray[np.bool_] = high_enough & (uniform < above) & (above - uniform > close)
        return clear & (guess <= last)

    def _decide(self, uniform: int, more: Iterator[int]) -> int:
        """Return |R| for a U that starts with ``uniform``, in exact arithmetic."""
        number = _Uniform(uniform, more, self.sigma_over_grid)
        floor = np.uint64(max(uniform - _CLOSE, 0))
        low = int(np.searchsorted(self._table, floor, side="left"))  # F(low - 1) < U for certain
        step = 1
        while not number.below(low + step - 1):
            low, step = low + step, 2 * step
        high = low + step - 1
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if number.below(middle) else (middle + 1, high)
        return low


class _Uniform:
    """A number in [0, 1), known to as many bits as its comparisons have asked for."""

    def __init__(self, first: int, more: Iterator[int], sigma_over_grid: float) -> None:
        self._value, self._bits = first, _BITS
        self._more, self._s = more, sigma_over_grid

    def below(self, k: int) -> bool:
        """Tell whether U < F(k)."""
        while True:
            threshold = _threshold(k, self._s, self._bits)
            if (self._value + 1) << _GUARD <= threshold - _ERROR:
                return True
            if self._value << _GUARD >= threshold + _ERROR:
                return False
            self._value, self._bits = (self._value << 64) | next(self._more), self._bits + 64


def _threshold(k: int, sigma_over_grid: float, bits: int) -> int:
    """Return F(k) in units of 2^-(bits + _GUARD), off by less than _ERROR."""
    context = mpmath.MPContext()
    context.prec = bits + 2 * _GUARD
    x = (2 * k + 1) / (2 * context.sqrt(2) * context.mpf(sigma_over_grid))
    return int(context.ldexp(1 - context.erfc(x), bits + _GUARD))


def _check_table(table: NDArray[np.uint64], sigma_over_grid: float) -> None:
    for k in np.linspace(0, table.size - 1, 17).astype(np.int64).tolist():
        # A few entries against exact arithmetic: a library that is off would change the bits in
        # silence.
        exact = _threshold(k, sigma_over_grid, _BITS) >> _GUARD
        if abs(exact - int(table[k])) > _TRUSTED:
            raise EnvironmentUnfitError(
                "the error function of this SciPy is off by more than 2^-49",
                where="scipy.special.erfc",
                remedy="Install the SciPy release named in constraints.txt.",
            )


@lru_cache(maxsize=8)
def rounded_gaussian(sigma_over_grid: float) -> RoundedGaussian:
    """Return the sampler for s, building its table once per process."""
    return RoundedGaussian(sigma_over_grid)
