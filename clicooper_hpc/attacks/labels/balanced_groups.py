"""Grouping by balance: names of one class that were spread on purpose cancel each other.

A map that moves the mean rows of a class's names apart leaves the mean of their union where the
class is, near the mean of all rows. Groups whose pooled means and sizes are as equal as possible
are then the classes, most of all with few names a class.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["balanced_groups"]

_STARTS, _SWEEPS = 12, 60
#: Swaps tried in all, in pairs of names: bounds the time where there are many names.
_MOST_PAIRS = 40_000_000


def balanced_groups(
    means: NDArray[np.float64],
    counts: NDArray[np.int64],
    groups: int,
    seed: int,
    *,
    scale: float = 1.0,
) -> NDArray[np.int64]:
    """Return the group of each name, int64 [s]; equally many names in each, as far as that goes.

    Local search from several random starts: names are swapped between groups while that makes the
    sum of squares of the groups' pooled rows smaller.

    Parameters
    ----------
    means
        float64 [s, d], mean row of each name, whitened.
    counts
        int64 [s], rows of each name.
    """
    names = len(means)
    sizes = counts.astype(np.float64)
    # Weighted by rows, so that the centre is the mean of all rows.
    centred = means - np.average(means, axis=0, weights=np.maximum(sizes, 1e-12))
    # Sizes as one more coordinate: groups shall be equal in rows as well.
    sums = np.hstack([centred * sizes[:, None], (sizes - sizes.mean())[:, None]])
    rng = np.random.default_rng(seed)
    even = np.arange(names) % groups
    starts = max(1, round(_STARTS * scale))
    sweeps = max(1, min(_SWEEPS, _MOST_PAIRS // (starts * names**2)))
    best, least = even, np.inf
    for _ in range(starts):
        group, cost = _balance_by_swaps(sums, rng.permutation(even), groups, sweeps, rng)
        if cost < least:
            best, least = group, cost
    return best


def _balance_by_swaps(
    sums: NDArray[np.float64],
    group: NDArray[np.int64],
    groups: int,
    sweeps: int,
    rng: np.random.Generator,
) -> tuple[NDArray[np.int64], float]:
    """Swap until no swap helps; return the groups and the sum of squares of their totals."""
    totals = np.zeros((groups, sums.shape[1]))
    np.add.at(totals, group, sums)
    for _ in range(sweeps):
        moved = False
        for one in rng.permutation(len(sums)):
            mine = group[one]
            change = sums - sums[one]
            # The change of the sum of squares by each swap with this name, all at once.
            gain = 2 * np.sum(change * (totals[mine] - totals[group] + change), axis=1)
            gain[group == mine] = 0.0
            other = int(np.argmin(gain))
            # Not any gain: rounding would let two swaps undo each other for ever.
            if gain[other] < -1e-9:
                totals[mine] += change[other]
                totals[group[other]] -= change[other]
                group[one], group[other] = group[other], mine
                moved = True
        if not moved:
            break
    return group, float(np.sum(totals**2))
