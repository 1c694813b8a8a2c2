"""Is this very sample in the released moments? Told with more knowledge than any party has.

The moments are class sums, second moment and sizes with Gaussian noise, so the best test there is
follows from the Neyman-Pearson lemma. Two attackers, both given the moments themselves:

informed
    knows every sample but one, and asks which of two known samples is the last one: the game that
    the guarantee is about. With T(x, y) a sample's part of the moments (`clicooper_hpc.privacy.
    moments`) and R the released moments less the parts of all others, the log-likelihood ratio of
    a target t against an alternative a is (<R, T(t) - T(a)> - (|T(t)|^2 - |T(a)|^2) / 2) / sigma^2.
    Targets asked of one release share its noise, and a figure over them would depend on that one
    draw far more than its interval says: so they are dealt over the release of the run and 63 more
    of the same sums, with fresh noise of the same mechanism.
with a reference
    knows no sample, only other rows of the distribution (Homer et al., "Resolving Individuals
    Contributing Trace Amounts of DNA to Highly Complex Mixtures", 2008). The matched filter of the
    target against moments that deviate from those of the reference by chance: by drawing n samples,
    by the reference being finite, and by noise. In the reference's principal components these are
    taken as independent.

Who was given recoloured public rows can read off them what is left of the moments
(`moments_of_rows`), and be the second attacker with that.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from clicooper_hpc.attacks.harness.adversary import HeldMoments
from clicooper_hpc.attacks.toolbox.summed_rows import LabelledRows
from clicooper_hpc.digests import digest_bytes
from clicooper_hpc.privacy.master_key import INSECURE, MasterKey
from clicooper_hpc.privacy.moments import Moments, MomentSums, moments_context, noised_moments
from clicooper_hpc.privacy.release_spec import ReleaseSpec

__all__ = [
    "RELEASES",
    "informed_membership_scores",
    "moments_of_rows",
    "reference_membership_scores",
    "repeated_releases",
]

#: Releases that the targets of an informed attacker are dealt over.
RELEASES: Final = 64
_TAG: Final = "clicooper/v1/moments-membership"

_BLOCK: Final = 512
# Of the mean variance: directions in which the reference hardly varies would be blown up.
_FLOOR: Final = 1e-3
# In place of no noise at all: differences in exact sums are far larger.
_LEAST_SIGMA: Final = 1e-6


def moments_of_rows(
    rows: NDArray[np.float32],
    names: NDArray[np.int32],
    name_count: int,
    samples: int,
    sigma: float,
) -> Moments:
    """Return the moments that recoloured rows float32 [n, p] named ``names`` int32 [n] speak of.

    Their mean is that of the moments, their covariance what the owner made of the second moment.
    Sums and sizes are by name. ``samples``: how many samples the moments are of.
    """
    whole, factor = rows.astype(np.float64), samples / len(rows)
    sums = np.zeros((name_count, rows.shape[1]))
    np.add.at(sums, names, whole)
    sizes = np.bincount(names, minlength=name_count).astype(np.float64) * factor
    return Moments(sums * factor, whole.T @ whole * factor, sizes, samples, sigma)


def repeated_releases(
    moments: HeldMoments, spec: ReleaseSpec | None, seed: int
) -> Iterator[HeldMoments]:
    """Yield ``moments``, then the same sums released again with other noise: 64 in all.

    ``spec``: the mechanism; without one there is no noise, and ``moments`` is all there is.
    """
    yield moments
    if spec is None:
        return
    exact = moments.exact
    # Keyed apart from every run: the run's key is not asked for.
    secret = digest_bytes(_TAG, f"key {seed}".encode("ascii")).value
    source = digest_bytes(_TAG, b"released again")
    nothing = MomentSums(exact.sums.shape[0], exact.sums.shape[1], spec)
    for number in range(1, RELEASES):
        context = moments_context(source, digest_bytes(_TAG, f"release {number}".encode()), spec)
        noise = noised_moments(nothing, context, MasterKey(secret, INSECURE))
        again = Moments(
            exact.sums + noise.sums,
            exact.second + noise.second,
            exact.sizes + noise.sizes,
            exact.samples,
            spec.sigma,
        )
        yield HeldMoments(again, exact)


def informed_membership_scores(
    moments: HeldMoments, slots: LabelledRows, targets: LabelledRows, others: LabelledRows
) -> NDArray[np.float64]:
    """Return log-likelihood ratios float64 [m]: the slot holds its target rather than the other.

    Parameters
    ----------
    moments
        As released; without noise they are the parts of the slot's sample and of the others, which
        are known.
    slots
        The samples that are really there, [m].
    targets, others
        The two candidates for each slot, one of them the sample that is there.
    """
    # All but the slot's sample are known: what is left is its part and the noise.
    released, exact = moments.released, moments.exact
    noise = Moments(
        released.sums - exact.sums,
        released.second - exact.second,
        released.sizes - exact.sizes,
        released.samples,
        released.sigma,
    )
    wanted, other = (
        _share_in_moments(noise, one) + _shared_parts(slots, one) - _shared_parts(one, one) / 2
        for one in (targets, others)
    )
    return np.asarray((wanted - other) / max(released.sigma, _LEAST_SIGMA) ** 2, dtype=np.float64)


def reference_membership_scores(
    moments: Moments,
    targets: LabelledRows,
    reference: NDArray[np.float64],
    classes: NDArray[np.int64] | None,
) -> NDArray[np.float64]:
    """Score targets by how well the moments' deviation from the reference fits them: float64 [m].

    Parameters
    ----------
    moments
        As released.
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
    scores = _score_second(moments, points, mean, white, values, len(reference))
    # Where classes are known every class is compared with its own mean, else all with one.
    groups = [
        (np.arange(len(targets)), reference, moments.sums.sum(axis=0), float(moments.samples))
    ]
    sums = len(moments.sums)
    if classes is not None:
        groups = [
            (
                np.flatnonzero(targets.classes == one),
                reference[classes == one],
                moments.sums[one],
                max(float(moments.sizes[one]), 1.0),
            )
            for one in range(sums)
        ]
    for at, rows, total, size in groups:
        # A class without a reference says nothing about its targets.
        if not len(rows):
            continue
        centre = rows.mean(axis=0)
        deviation = (total - size * centre) @ white
        noise = moments.sigma**2 * (1 if classes is not None else sums) / values
        variance = size + size**2 / len(rows) + noise
        own = (targets.rows[at] - centre) @ white
        scores[at] += (own * deviation - own**2 / 2) @ (1 / variance)
    return scores


def _share_in_moments(moments: Moments, samples: LabelledRows) -> NDArray[np.float64]:
    """Return <moments, T(x, y)> of each sample in units in which all noise has one sigma."""
    found = np.empty(len(samples))
    for start in range(0, len(samples), _BLOCK):
        part = slice(start, start + _BLOCK)
        rows, classes = samples.rows[part], samples.classes[part]
        products = ((rows @ moments.second) * rows).sum(axis=1)
        of_class = (moments.sums[classes] * rows).sum(axis=1)
        found[part] = of_class + products / 2 + moments.sizes[classes] / 2
    return found


def _shared_parts(one: LabelledRows, other: LabelledRows) -> NDArray[np.float64]:
    """Return <T(x, y), T(x', y')> of samples pair by pair."""
    product = (one.rows * other.rows).sum(axis=1)
    same = one.classes == other.classes
    return np.asarray(same * (product + 0.5) + product**2 / 2, dtype=np.float64)


def _score_second(
    moments: Moments,
    points: NDArray[np.float64],
    mean: NDArray[np.float64],
    white: NDArray[np.float64],
    values: NDArray[np.float64],
    reference: int,
) -> NDArray[np.float64]:
    """Score whitened ``points`` [m, p] by the second moment's deviation from the identity."""
    n, total = moments.samples, moments.sums.sum(axis=0)
    cross = np.outer(mean, total)
    centred = moments.second - cross - cross.T + n * np.outer(mean, mean)
    deviation = white.T @ centred @ white - n * np.eye(len(values))
    # Of an entry off the diagonal; on it all is twice as much, and each entry stands once there.
    variance = n + n**2 / reference + moments.sigma**2 / np.outer(values, values)
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
