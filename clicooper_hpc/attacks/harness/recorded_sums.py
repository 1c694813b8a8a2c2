"""The noised sums of a recorded run, made again and compared with the rows made of them.

The run keeps what it made of them, not the sums themselves. Their noise is keyed, so the same
samples, front and key give the same bits.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from clicooper_hpc.attacks.harness.summed_release import (
    HeldRelease,
    SummedRelease,
    summed_moments,
)
from clicooper_hpc.config.owner_sections import ReleaseMode
from clicooper_hpc.data.split import Split
from clicooper_hpc.errors import EvidenceError
from clicooper_hpc.fronts.front import Front
from clicooper_hpc.owner.make_moments import sum_up_classes, sum_up_moments
from clicooper_hpc.privacy.class_sums import class_sums_context, noised_class_sums
from clicooper_hpc.privacy.master_key import MasterKey
from clicooper_hpc.privacy.moments import MomentSums, moments_context, noised_moments
from clicooper_hpc.privacy.noise import NoiseStream, ReleaseContext
from clicooper_hpc.privacy.release_spec import ReleaseSpec

__all__ = ["add_up_release", "check_recorded_sums", "hold_class_sums", "hold_moments"]

# Rows left as float32; another draw of the noise is off by far more, even of a million samples.
_ROUNDING: Final = 1e-6


def add_up_release(
    mode: ReleaseMode,
    front: Front,
    train: Split,
    classes: int,
    *,
    spec: ReleaseSpec | None,
    master: MasterKey,
) -> HeldRelease:
    """Return what ``release.mode = mode`` released of ``train``, with the noise of the run and not.

    With ``"gradients"`` the moments alone. ``spec``: theirs; None with privacy off: then there is
    no noise.
    """
    source = front.digest, train.fingerprint()
    if mode == "sums":
        context = None if spec is None else class_sums_context(*source, spec)
        whole = sum_up_classes(front, train, classes, spec)
        return hold_class_sums(whole, len(train), context, master)
    sums = sum_up_moments(front, train, classes, spec)
    context = None if spec is None else moments_context(*source, spec)
    return hold_moments(sums, context, master)


def hold_moments(
    sums: MomentSums, context: ReleaseContext | None, master: MasterKey
) -> HeldRelease:
    """Return sums with the noise of ``context`` and without; with privacy off it is None."""
    grid = 1.0 if context is None else context.spec.grid
    exact = SummedRelease(
        sums.sums * np.float64(grid),
        sums.samples,
        0.0,
        second=sums.second * np.float64(grid**2),
        sizes=sums.sizes.astype(np.float64),
    )
    if context is None:
        return HeldRelease(exact, exact)
    return HeldRelease(summed_moments(noised_moments(sums, context, master)), exact)


def hold_class_sums(
    sums: NDArray[np.int64] | NDArray[np.float64],
    samples: int,
    context: ReleaseContext | None,
    master: MasterKey,
) -> HeldRelease:
    """Return class sums [K, p] with the noise of ``context`` and without.

    int64 in steps of its grid; float64, not exact, with privacy off, where it is None.
    """
    if context is None:
        plain = SummedRelease(sums.astype(np.float64), samples, 0.0)
        return HeldRelease(plain, plain)
    spec = context.spec
    exact = SummedRelease(sums * np.float64(spec.grid), samples, 0.0)
    noised = noised_class_sums(sums.astype(np.int64), NoiseStream(master, context))
    return HeldRelease(SummedRelease(noised, samples, spec.sigma), exact)


def check_recorded_sums(release: SummedRelease, rows: NDArray[np.float32]) -> None:
    """Compare the sums with the rows float32 [n, ...] that left: these have their mean.

    Raises
    ------
    EvidenceError
        They are not what the rows were made of.
    """
    mean = rows.reshape(len(rows), -1).mean(axis=0, dtype=np.float64)
    expected = release.sums.sum(axis=0) / release.samples
    if not np.allclose(mean, expected, rtol=0, atol=_ROUNDING * (1 + np.abs(expected).max())):
        raise EvidenceError(
            "the sums of the private samples are not those that the released rows were made of",
            where="data.path",
            remedy="Attack the run where its data, its key and its code are.",
        )
