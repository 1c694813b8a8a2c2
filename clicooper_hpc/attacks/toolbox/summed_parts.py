"""How much the parts that samples have in a summed release have in common with it, and each other.

A sample's part T(x, y) is its row in the sum of its class, and with the moments its x x^T and its
one in the size of its class (`clicooper_hpc.privacy.moments`), in units in which all noise has one
sigma. Inner products of such parts are all that linear statistics of a release need; the parts
themselves, of up to half a million numbers, need never be written down.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from clicooper_hpc.attacks.harness.summed_release import SummedRelease
from clicooper_hpc.attacks.toolbox.summed_rows import LabelledRows

__all__ = ["shared_kernel", "shared_parts", "shared_with_release"]

_BLOCK: Final = 512


def shared_with_release(release: SummedRelease, samples: LabelledRows) -> NDArray[np.float64]:
    """Return <release, T(x, y)> of each sample: float64 [m]."""
    found = np.empty(len(samples))
    for start in range(0, len(samples), _BLOCK):
        part = slice(start, start + _BLOCK)
        rows, classes = samples.rows[part], samples.classes[part]
        shared = (release.sums[classes] * rows).sum(axis=1)
        if release.second is not None:
            shared = shared + ((rows @ release.second) * rows).sum(axis=1) / 2
        if release.sizes is not None:
            shared = shared + release.sizes[classes] / 2
        found[part] = shared
    return found


def shared_parts(
    one: LabelledRows, other: LabelledRows, release: SummedRelease
) -> NDArray[np.float64]:
    """Return <T(x, y), T(x', y')> of samples pair by pair, float64 [m]; ``release``: its blocks."""
    product = (one.rows * other.rows).sum(axis=1)
    return _joined(product, one.classes == other.classes, release)


def shared_kernel(
    one: LabelledRows, other: LabelledRows, release: SummedRelease
) -> NDArray[np.float64]:
    """Return <T(x, y), T(x', y')> of every pair, float64 [m, m']; ``release``: its blocks."""
    same = one.classes[:, np.newaxis] == other.classes
    return _joined(one.rows @ other.rows.T, same, release)


def _joined(
    product: NDArray[np.float64], same: NDArray[np.bool_], release: SummedRelease
) -> NDArray[np.float64]:
    shared = same * (product + (0.0 if release.sizes is None else 0.5))
    if release.second is not None:
        shared += product**2 / 2
    return np.asarray(shared, dtype=np.float64)
