"""Retrieval: is the true image among the nearest of 1000 candidates; its ceiling under noise."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from clicooper_hpc.attacks.harness.adversary import AdversaryView, GroundTruth, PublicMechanism
from clicooper_hpc.attacks.harness.attack import AttackResult

__all__ = [
    "RETRIEVAL_TOP",
    "retrieval_candidates",
    "retrieval_ceiling",
    "retrieval_hits",
    "retrieval_interval",
    "score_row_retrieval",
]

RETRIEVAL_TOP: Final = (1, 10)
_CANDIDATES = 1000
_RESAMPLES = 1000


def retrieval_hits(
    pictures: NDArray[np.float32],
    candidates: NDArray[np.float32],
    true: NDArray[np.int64],
    top: int,
) -> NDArray[np.float64]:
    """Return the chance that the true candidate is among the ``top`` nearest, float64 [n].

    0 or 1 unless candidates are equally near; then as if ties were broken at random.

    Parameters
    ----------
    pictures
        float32 [n, ...].
    candidates
        float32 [m, ...].
    true
        int64 [n]: place of the original among the candidates.
    top
        k of top-k.
    """
    made = pictures.reshape(len(pictures), -1).astype(np.float64)
    given = candidates.reshape(len(candidates), -1).astype(np.float64)
    # Without the picture's own square, which is the same for all candidates.
    distances = (given**2).sum(axis=1) - 2 * made @ given.T
    own = distances[np.arange(len(true)), true][:, None]
    nearer = (distances < own).sum(axis=1)
    level = (distances == own).sum(axis=1)
    # Equal distances, as of the mean image, count for what a random choice among them would hit.
    hits: NDArray[np.float64] = np.clip((top - nearer) / level, 0.0, 1.0)
    return hits


def retrieval_ceiling(mechanism: PublicMechanism, top: int, candidates: int) -> float:
    """Return what no attacker can exceed who names ``top`` of the equally likely candidates.

    Phi(Phi^-1(k / m) + R / sigma), by the argument of `clicooper_hpc.privacy.ceiling`: without the
    row k names hold the right one with chance k / m. nan without noise.
    """
    # Without noise or clip nothing is bounded.
    if mechanism.sigma == 0 or not math.isfinite(mechanism.radius) or top >= candidates:
        return math.nan
    return float(ndtr(ndtri(top / candidates) + mechanism.radius / mechanism.sigma))


def score_row_retrieval(
    inputs: NDArray[np.int64], view: AdversaryView, truth: GroundTruth, *, attack: str, seed: int
) -> tuple[AttackResult, ...]:
    """Let an attacker who was handed the candidates tell whose row is whose; needs a front.

    No picture is made: the candidate whose clean row is nearest to the released one is the most
    likely under Gaussian noise, so this bounds what retrieval by pictures can reach. A figure
    above ``AttackResult.ceiling`` proves a fault of the mechanism.
    """
    if view.front is None:
        return ()
    candidates, true = retrieval_candidates(view.groups[inputs, 0], truth, seed)
    # What noise was added to: the nearest such row is the likeliest.
    clean = view.clip(view.front(candidates))
    results = []
    for top in (k for k in RETRIEVAL_TOP if k < len(candidates)):
        hits = retrieval_hits(view.rows[inputs], clean, true, top)
        low, high = retrieval_interval(hits, seed)
        results.append(
            AttackResult(
                attack=attack,
                variant="line-up",
                party=view.adversary.name,
                metric=f"row match top-{top} of {len(candidates)}",
                kind="honest",
                value=float(hits.mean()),
                low=low,
                high=high,
                chance=top / len(candidates),
                baseline=top / len(candidates),
                ceiling=retrieval_ceiling(view.mechanism, top, len(candidates)),
                seed=seed,
                note=f"knows the candidates themselves, no other image; {len(hits)} rows",
            )
        )
    return tuple(results)


def retrieval_candidates(
    targets: NDArray[np.int64], truth: GroundTruth, seed: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return up to 1000 training images with all targets among them, and the targets' places."""
    # Candidates are training images, as the true one is: another set could be told by its style.
    rest = np.setdiff1d(np.arange(len(truth.train)), targets)
    wanted = max(0, _CANDIDATES - len(targets))
    drawn = np.random.default_rng(seed).permutation(rest)[:wanted]
    chosen = np.concatenate([targets, drawn])
    return truth.train.images[chosen], np.arange(len(targets), dtype=np.int64)


def retrieval_interval(values: NDArray[np.float64], seed: int) -> tuple[float, float]:
    """Return the percentile bootstrap interval of the mean, 95 %."""
    draws = np.random.default_rng(seed).integers(0, len(values), (_RESAMPLES, len(values)))
    low, high = np.quantile(values[draws].mean(axis=1), [0.025, 0.975])
    return float(low), float(high)
