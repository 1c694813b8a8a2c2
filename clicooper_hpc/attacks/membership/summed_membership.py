"""Is this very sample in the released sums? Told with more knowledge than any party has.

The release is class sums, with moments also the second moment and sizes, with Gaussian noise, so
the best test there is follows from the Neyman-Pearson lemma. Two attackers, both given the noised
sums themselves:

informed
    knows every sample but one, and asks which of two known samples is the last one: the game that
    the guarantee is about. With T(x, y) a sample's part of the release
    (`clicooper_hpc.attacks.toolbox.summed_parts`) and R the release less the parts of all others,
    the log-likelihood ratio of a target t against an alternative a is
    (<R, T(t) - T(a)> - (|T(t)|^2 - |T(a)|^2) / 2) / sigma^2.
    Targets asked of one release share its noise, and a figure over them would depend on that one
    draw far more than its interval says: so they are dealt over the release of the run and 63 more
    of the same sums, with fresh noise of the same mechanism.
with a reference
    knows no sample, only other rows of the distribution (Homer et al., "Resolving Individuals
    Contributing Trace Amounts of DNA to Highly Complex Mixtures", 2008). The matched filter of the
    target against sums that deviate from those of the reference by chance: by drawing n samples,
    by the reference being finite, by class sizes where these are not released, and by noise. In the
    reference's principal components these are taken as independent.

Who was given recoloured public rows can read off them what is left of the sums
(`clicooper_hpc.attacks.toolbox.named_rows`), and be the second attacker with that.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from clicooper_hpc.attacks.harness.summed_release import HeldRelease, SummedRelease
from clicooper_hpc.attacks.toolbox.summed_parts import shared_parts, shared_with_release
from clicooper_hpc.attacks.toolbox.summed_rows import LabelledRows

__all__ = [
    "informed_membership_scores",
    "reference_membership_scores",
]

_BLOCK: Final = 512
# Of the mean variance: directions in which the reference hardly varies would be blown up.
_FLOOR: Final = 1e-3
# In place of no noise at all: differences in exact sums are far larger.
_LEAST_SIGMA: Final = 1e-6


def informed_membership_scores(
    held: HeldRelease, slots: LabelledRows, targets: LabelledRows, others: LabelledRows
) -> NDArray[np.float64]:
    """Return log-likelihood ratios float64 [m]: the slot holds its target rather than the other.

    Parameters
    ----------
    held
        As released; without noise it is the parts of the slot's sample and of the others, which
        are known.
    slots
        The samples that are really there, [m].
    targets, others
        The two candidates for each slot, one of them the sample that is there.
    """
    # All but the slot's sample are known: what is left is its part and the noise.
    noise = held.released.less(held.exact)
    wanted, other = (
        shared_with_release(noise, one)
        + shared_parts(slots, one, noise)
        - shared_parts(one, one, noise) / 2
        for one in (targets, others)
    )
    sigma = max(held.released.sigma, _LEAST_SIGMA)
    return np.asarray((wanted - other) / sigma**2, dtype=np.float64)


def reference_membership_scores(
    release: SummedRelease,
    targets: LabelledRows,
    reference: NDArray[np.float64],
    classes: NDArray[np.int64] | None,
) -> NDArray[np.float64]:
    """Score targets by how well the release's deviation from the reference fits them: float64 [m].

    Parameters
    ----------
    release
        Noised sums.
    targets
        In question; their classes are used where those of the reference are known.
    reference
        float64 [r >= 2, p]: other rows.
    classes
        int64 [r] of the reference, or None if it is another data set, where they mean nothing.
    """
    mean = reference.mean(axis=0)
    values, vectors = np.linalg.eigh(np.atleast_2d(np.cov(reference.T)))
    values = np.maximum(values, _FLOOR * values.mean())
    white = vectors / np.sqrt(values)
    points = (targets.rows - mean) @ white
    scores = np.zeros(len(targets))
    if release.second is not None:
        total = release.sums.sum(axis=0)
        cross = np.outer(mean, total)
        centred = release.second - cross - cross.T + release.samples * np.outer(mean, mean)
        noise = release.sigma**2 / np.outer(values, values)
        scores += _score_second(
            white.T @ centred @ white, noise, points, release.samples, len(reference)
        )
    # Where classes are known every class is compared with its own mean, else all with one.
    groups = [
        (np.arange(len(targets)), reference, release.sums.sum(axis=0), float(release.samples), 0.0)
    ]
    summed = len(release.sums)
    if classes is not None:
        groups = []
        for one in range(summed):
            rows = reference[classes == one]
            size, uncertain = _class_size(release, one, len(rows), len(reference))
            at = np.flatnonzero(targets.classes == one)
            groups.append((at, rows, release.sums[one], size, uncertain))
    for at, rows, total, size, uncertain in groups:
        # A class without a reference says nothing about its targets.
        if not len(rows):
            continue
        centre = rows.mean(axis=0)
        deviation = (total - size * centre) @ white
        noise = release.sigma**2 * (1 if classes is not None else summed) / values
        variance = size + size**2 / len(rows) + noise + uncertain * (centre @ white) ** 2
        own = (targets.rows[at] - centre) @ white
        scores[at] += (own * deviation - own**2 / 2) @ (1 / variance)
    return scores


def _class_size(
    release: SummedRelease, one: int, known: int, reference: int
) -> tuple[float, float]:
    """Return samples of class ``one``, at least 1, and the variance of what is not known of them.

    ``known`` of ``reference`` rows are of that class.
    """
    if release.sizes is not None:
        return max(float(release.sizes[one]), 1.0), 0.0
    n, share = release.samples, known / reference
    # Both the release's samples and the reference's are drawn.
    return max(n * share, 1.0), n * share * (1 - share) * (1 + n / reference)


def _score_second(
    second: NDArray[np.float64],
    noise: NDArray[np.float64],
    points: NDArray[np.float64],
    samples: int,
    reference: int,
) -> NDArray[np.float64]:
    """Score whitened ``points`` [m, p] by a whitened second moment's deviation from the identity.

    ``noise``: variance of the noise of each of its entries, off the diagonal.
    """
    deviation = second - samples * np.eye(len(second))
    # Of an entry off the diagonal; on it all is twice as much, and each entry stands once there.
    variance = samples + samples**2 / reference + noise
    weighted = deviation / variance
    scores = np.empty(len(points))
    for start in range(0, len(points), _BLOCK):
        part = points[start : start + _BLOCK]
        squares = part**2
        # Half the full sum: pairs once, the diagonal by half.
        fit = (((part @ weighted) * part).sum(axis=1) - np.trace(weighted)) / 2
        power = ((squares @ (1 / variance)) * squares).sum(axis=1)
        power += (1 - 2 * squares) @ np.diag(1 / variance)
        scores[start : start + _BLOCK] = fit - power / 4
    return scores
