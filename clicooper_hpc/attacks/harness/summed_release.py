"""What is released of all samples together: class sums, and where there are, moments beside them.

``release.mode = "sums"`` releases class sums alone, ``"moments"`` the second moment and the sizes
of the classes as well, ``"gradients"`` these and rounds of gradient sums. Attacks on any are the
same, with the blocks that there are.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Final

import numpy as np
from numpy.typing import NDArray

from clicooper_hpc.owner.moment_model import MomentModel
from clicooper_hpc.privacy.moments import Moments
from clicooper_hpc.privacy.release_spec import ReleaseSpec

__all__ = ["RELEASE_HOLDERS", "HeldRelease", "HeldRounds", "SummedRelease", "summed_moments"]

#: Nobody outside the owner is given the noised sums; who were would be bound by their guarantee.
#: By ``release.mode``. Names are stored in attacks.h5 and typed on the command line.
RELEASE_HOLDERS: Final = {
    "moments": "whoever held the moments",
    "sums": "whoever held the sums",
    "gradients": "whoever held the gradients",
}


@dataclass(frozen=True, slots=True, eq=False)
class SummedRelease:
    """What is known of ``samples`` rows of p numbers in K classes.

    Parameters
    ----------
    sums
        float64 [K, p]: sums of rows by class.
    samples
        Their number, which is public.
    sigma
        Noise in each number of ``sums``, and in ``second`` off its diagonal; on it, and in
        ``sizes``, it is sqrt(2) times that. 0 without noise.
    second
        float64 [p, p], symmetric: sum of x x^T; None if it was not released.
    sizes
        float64 [K]: samples by class, may be negative; None if they were not released.
    """

    sums: NDArray[np.float64]
    samples: int
    sigma: float
    second: NDArray[np.float64] | None = None
    sizes: NDArray[np.float64] | None = None

    def blocks(self) -> dict[str, NDArray[np.float64]]:
        """Return the blocks that there are, by name."""
        named = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in named.items() if isinstance(value, np.ndarray)}

    def as_moments(self) -> Moments:
        """Return the release as moments; `ValueError` if it is class sums alone."""
        if self.second is None or self.sizes is None:
            raise ValueError("class sums alone are no moments")
        return Moments(self.sums, self.second, self.sizes, self.samples, self.sigma)

    def less(self, other: SummedRelease) -> SummedRelease:
        """Return this release less another one of the same blocks, such as noise alone."""
        return self._joined(other, -1.0)

    def plus(self, other: SummedRelease) -> SummedRelease:
        """Return the sum of two releases of the same blocks; noise stays that of this one."""
        return self._joined(other, 1.0)

    def _joined(self, other: SummedRelease, sign: float) -> SummedRelease:
        mine, others = self.blocks(), other.blocks()
        if mine.keys() != others.keys():
            raise ValueError(f"blocks {sorted(mine)} and {sorted(others)} do not fit together")
        joined = {name: mine[name] + sign * others[name] for name in mine}
        return SummedRelease(
            joined["sums"],
            self.samples,
            self.sigma,
            second=joined.get("second"),
            sizes=joined.get("sizes"),
        )


@dataclass(frozen=True, slots=True, eq=False)
class HeldRounds:
    """Sums of gradients over the owner's samples, round by round.

    Parameters
    ----------
    models
        At which the gradients were taken, one a round.
    released, exact
        float64 [T, p + 1, K], with the noise of the run and without.
    spec
        Of one round; None with privacy off.
    """

    models: tuple[MomentModel, ...]
    released: NDArray[np.float64]
    exact: NDArray[np.float64]
    spec: ReleaseSpec | None


@dataclass(frozen=True, slots=True, eq=False)
class HeldRelease:
    """Sums over the owner's samples as released, and without noise.

    ``exact`` is for attackers that are granted all samples but one, and so the sums of these.
    ``rounds``: of gradients, where there are.
    """

    released: SummedRelease
    exact: SummedRelease
    rounds: HeldRounds | None = None


def summed_moments(moments: Moments) -> SummedRelease:
    """Return released moments as attacks take them."""
    return SummedRelease(
        moments.sums, moments.samples, moments.sigma, second=moments.second, sizes=moments.sizes
    )
