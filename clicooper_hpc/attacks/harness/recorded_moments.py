"""The noised moments of a recorded run, made again and compared with the rows made of them.

The run keeps what it made of them, not the moments themselves. Their noise is keyed, so the same
samples, front and key give the same bits.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from clicooper_hpc.attacks.harness.adversary import HeldMoments
from clicooper_hpc.data.split import Split
from clicooper_hpc.errors import EvidenceError
from clicooper_hpc.fronts.front import Front
from clicooper_hpc.owner.make_moments import sum_up_moments
from clicooper_hpc.privacy.master_key import MasterKey
from clicooper_hpc.privacy.moments import Moments, MomentSums, moments_context, noised_moments
from clicooper_hpc.privacy.noise import ReleaseContext
from clicooper_hpc.privacy.release_spec import ReleaseSpec

__all__ = ["add_up_moments", "check_recorded_moments", "hold_moments"]

# Rows left as float32; another draw of the noise is off by far more, even of a million samples.
_ROUNDING: Final = 1e-6


def add_up_moments(
    front: Front, train: Split, classes: int, spec: ReleaseSpec | None, master: MasterKey
) -> HeldMoments:
    """Return the moments of ``train`` behind ``front``, with the noise of the run and without.

    ``spec`` is None with privacy off: then there is no noise.
    """
    sums = sum_up_moments(front, train, classes, spec)
    context = None if spec is None else moments_context(front.digest, train.fingerprint(), spec)
    return hold_moments(sums, context, master)


def hold_moments(
    sums: MomentSums, context: ReleaseContext | None, master: MasterKey
) -> HeldMoments:
    """Return sums with the noise of ``context`` and without; with privacy off it is None."""
    grid = 1.0 if context is None else context.spec.grid
    exact = Moments(
        sums.sums * np.float64(grid),
        sums.second * np.float64(grid**2),
        sums.sizes.astype(np.float64),
        sums.samples,
        0.0,
    )
    if context is None:
        return HeldMoments(exact, exact)
    return HeldMoments(noised_moments(sums, context, master), exact)


def check_recorded_moments(moments: Moments, released: NDArray[np.float32]) -> None:
    """Compare the moments with the rows float32 [n, ...] that left: these have their mean.

    Raises
    ------
    EvidenceError
        They are not what the rows were made of.
    """
    mean = released.reshape(len(released), -1).mean(axis=0, dtype=np.float64)
    expected = moments.sums.sum(axis=0) / moments.samples
    if not np.allclose(mean, expected, rtol=0, atol=_ROUNDING * (1 + np.abs(expected).max())):
        raise EvidenceError(
            "the moments of the private samples are not those that the released rows were made of",
            where="data.path",
            remedy="Attack the run where its data, its key and its code are.",
        )
