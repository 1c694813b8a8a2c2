"""Is this very image among the released rows? A likelihood ratio under the known noise.

The attacker has the image, hence its clean row r, and m rows of which at most one contains it. In
the principal components of the population's clean rows (mean c, variances l), a row made of k
samples, noise s, is N(c, s^2 / k + l / k) if the image is not in it, and with it
N((r + (k - 1) c) / k, s^2 / k + (k - 1) l / k^2). The ratio of the two, averaged over rows, is the
Neyman-Pearson statistic for a target at an unknown place among independent rows; its maximum over
rows is the matched filter. For the setting see Homer et al., "Resolving Individuals Contributing
Trace Amounts of DNA to Highly Complex Mixtures", 2008; the statistic is derived here.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp
from sklearn.decomposition import PCA

__all__ = ["release_membership_scores"]

_COMPONENTS: Final = 256
_BLOCK: Final = 1 << 22
# Of the mean variance; keeps noise-free rows finite, far above the rounding of float32 rows.
_FLOOR: Final = 1e-6


def release_membership_scores(
    rows: NDArray[np.float32],
    targets: NDArray[np.float32],
    population: NDArray[np.float32],
    *,
    sigma: float,
    group: int,
    seed: int,
) -> dict[str, NDArray[np.float64]]:
    """Score targets by how much likelier the rows are with them than without.

    Parameters
    ----------
    rows
        float32 [m, ...], as the trainer got them.
    targets
        float32 [t, ...], clean rows of the target images.
    population
        float32 [n >= 2, ...], clean rows of other images of the same distribution.
    sigma
        Noise of a released number.
    group
        k, samples in each row.
    seed
        Of the randomised principal components of wide rows.

    Returns
    -------
    dict[str, NDArray[np.float64]]
        ``"all rows"`` and ``"best row"``: float64 [t], logarithms of the average and of the
        largest likelihood ratio.
    """
    flat = population.reshape(len(population), -1)
    basis = PCA(min(_COMPONENTS, *flat.shape), random_state=seed).fit(flat)
    spread = np.asarray(basis.explained_variance_, dtype=np.float64)
    given, wanted = (
        np.asarray(basis.transform(one.reshape(len(one), -1)), dtype=np.float64)
        for one in (rows, targets)
    )
    floor = _FLOOR * (float(spread.mean()) or 1.0)
    without = sigma**2 / group + spread / group + floor
    within = sigma**2 / group + (group - 1) * spread / group**2 + floor
    # Whitened by the law with the target; centred, the population's mean is zero.
    points, centres = given / np.sqrt(within), wanted / group / np.sqrt(within)
    apart = 0.5 * (given**2 / without).sum(axis=1) - 0.5 * (points**2).sum(axis=1)
    constant = 0.5 * float(np.log(without / within).sum())
    means, largest = np.empty(len(targets)), np.empty(len(targets))
    # Targets by rows: a block of both at a time.
    step = max(1, _BLOCK // max(1, len(rows)))
    for start in range(0, len(targets), step):
        part = centres[start : start + step]
        ratios = part @ points.T - 0.5 * (part**2).sum(axis=1)[:, None] + apart + constant
        # The target's place is unknown, so ratios are averaged over rows.
        means[start : start + step] = logsumexp(ratios, axis=1) - np.log(len(rows))
        largest[start : start + step] = ratios.max(axis=1)
    return {"all rows": means, "best row": largest}
