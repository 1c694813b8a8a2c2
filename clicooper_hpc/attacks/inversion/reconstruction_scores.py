"""How like their originals an attacker's pictures are.

SSIM (Wang et al., IEEE TIP 2004; scikit-image, uniform 7x7 window or the largest odd one that fits,
data range 1), mean squared error, PSNR, and retrieval: is the true image the nearest, or among the
ten nearest, of 1000 candidates by squared error to the picture. Each figure stands beside that of
the mean image, which anybody has, and of a random other image. Intervals: percentile bootstrap over
samples, 95 %.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from clicooper_hpc.attacks.harness.adversary import AdversaryView, GroundTruth, PublicMechanism
from clicooper_hpc.attacks.harness.attack_definition import AttackResult, MetricKind

__all__ = [
    "Reconstruction",
    "cannot_reconstruct",
    "choose_reconstruction_inputs",
    "reconstruction_squared_errors",
    "reconstruction_ssim",
    "retrieval_ceiling",
    "retrieval_hits",
    "score_reconstruction",
    "score_row_retrieval",
]

_CANDIDATES = 1000
_TOP = (1, 10)
_WINDOW = 7
_RESAMPLES = 1000


@dataclass(frozen=True, slots=True, eq=False)
class Reconstruction:
    """What an attacker made, and what it could have said without the rows.

    Parameters
    ----------
    inputs
        int64 [n]: which inputs of the view the pictures are of.
    pictures
        float32 [n, channels, height, width] in [0, 1].
    mean_image
        float32 [channels, height, width], of the attacker's own images.
    others
        float32 [n, channels, height, width]: images of its own, drawn at random.
    """

    inputs: NDArray[np.int64]
    pictures: NDArray[np.float32]
    mean_image: NDArray[np.float32]
    others: NDArray[np.float32]


def cannot_reconstruct(view: AdversaryView) -> str | None:
    """Say why no single image lies behind a row of ``view``; None if one does."""
    if view.rows.size == 0:
        return "it was given no rows"
    if min(view.adversary.segments, default=1) > 1:
        return "it does not hold the segments before its own; together with trainer 1 it would"
    if view.groups.shape[1] != 1:
        return "its rows are means of several samples"
    return None


def choose_reconstruction_inputs(view: AdversaryView, count: int, seed: int) -> NDArray[np.int64]:
    """Draw at most ``count`` inputs of different samples, int64 [n], ascending."""
    _, first = np.unique(view.groups[:, 0], return_index=True)
    drawn = np.random.default_rng(seed).permutation(first)[:count]
    return np.sort(drawn).astype(np.int64)


def reconstruction_ssim(
    originals: NDArray[np.float32], pictures: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Return the SSIM of each pair, float64 [n]; both float32 [n, channels, height, width]."""
    from skimage.metrics import structural_similarity

    side = min(originals.shape[2:])
    window = min(_WINDOW, side if side % 2 else side - 1)
    values = [
        float(structural_similarity(a, b, win_size=window, channel_axis=0, data_range=1.0))  # type: ignore[no-untyped-call]
        for a, b in zip(originals, pictures, strict=True)
    ]
    return np.array(values, dtype=np.float64)


def reconstruction_squared_errors(
    originals: NDArray[np.float32], pictures: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Return the mean squared error per number of each pair, float64 [n]."""
    difference = originals.astype(np.float64) - pictures
    errors: NDArray[np.float64] = (difference**2).reshape(len(originals), -1).mean(axis=1)
    return errors


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
    distances = (given**2).sum(axis=1) - 2 * made @ given.T
    own = distances[np.arange(len(true)), true][:, None]
    nearer = (distances < own).sum(axis=1)
    level = (distances == own).sum(axis=1)
    hits: NDArray[np.float64] = np.clip((top - nearer) / level, 0.0, 1.0)
    return hits


def retrieval_ceiling(mechanism: PublicMechanism, top: int, candidates: int) -> float:
    """Return what no attacker can exceed who names ``top`` of the equally likely candidates.

    Phi(Phi^-1(k / m) + R / sigma), by the argument of `clicooper_hpc.privacy.ceiling`: without the
    row k names hold the right one with chance k / m. nan without noise.
    """
    if mechanism.sigma == 0 or not math.isfinite(mechanism.radius) or top >= candidates:
        return math.nan
    return float(ndtr(ndtri(top / candidates) + mechanism.radius / mechanism.sigma))


def score_reconstruction(
    made: Reconstruction,
    view: AdversaryView,
    truth: GroundTruth,
    *,
    attack: str,
    variant: str,
    kind: MetricKind,
    seed: int,
    note: str,
) -> tuple[AttackResult, ...]:
    """Compare the pictures with the originals.

    ``AttackResult.baseline`` is the mean image's score, ``AttackResult.chance`` that of random
    other images, or k / m for retrieval.
    """
    targets = view.groups[made.inputs, 0]
    originals = truth.train.images[targets]
    candidates, true = _line_up(targets, truth, seed)
    blank = np.broadcast_to(made.mean_image, originals.shape)
    tables: list[tuple[str, NDArray[np.float64], float, float, float]] = []
    guesses = (made.pictures, blank, made.others)
    likeness = [reconstruction_ssim(originals, guess) for guess in guesses]
    errors = [reconstruction_squared_errors(originals, guess) for guess in guesses]
    loudness = [10 * np.log10(1 / np.maximum(error, 1e-10)) for error in errors]
    for metric, (own, mean, other) in (("SSIM", likeness), ("MSE", errors), ("PSNR dB", loudness)):
        tables.append((metric, own, float(mean.mean()), float(other.mean()), math.nan))
    for top in _TOP:
        if top >= len(candidates):
            continue
        hits = retrieval_hits(made.pictures, candidates, true, top)
        mean = retrieval_hits(blank, candidates, true, top)
        ceiling = retrieval_ceiling(view.mechanism, top, len(candidates))
        name = f"retrieval top-{top} of {len(candidates)}"
        tables.append((name, hits, float(mean.mean()), top / len(candidates), ceiling))
    results = []
    for metric, values, baseline, chance, ceiling in tables:
        low, high = _interval(values, seed)
        results.append(
            AttackResult(
                attack=attack,
                variant=variant,
                party=view.adversary.name,
                metric=metric,
                kind=kind,
                value=float(values.mean()),
                low=low,
                high=high,
                chance=chance,
                baseline=baseline,
                ceiling=ceiling,
                seed=seed,
                note=f"{note}; {len(values)} pictures",
            )
        )
    return tuple(results)


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
    candidates, true = _line_up(view.groups[inputs, 0], truth, seed)
    clean = view.clip(view.front(candidates))
    results = []
    for top in (k for k in _TOP if k < len(candidates)):
        hits = retrieval_hits(view.rows[inputs], clean, true, top)
        low, high = _interval(hits, seed)
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


def _line_up(
    targets: NDArray[np.int64], truth: GroundTruth, seed: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return up to 1000 training images with all targets among them, and the targets' places."""
    rest = np.setdiff1d(np.arange(len(truth.train)), targets)
    wanted = max(0, _CANDIDATES - len(targets))
    drawn = np.random.default_rng(seed).permutation(rest)[:wanted]
    chosen = np.concatenate([targets, drawn])
    return truth.train.images[chosen], np.arange(len(targets), dtype=np.int64)


def _interval(values: NDArray[np.float64], seed: int) -> tuple[float, float]:
    """Return the percentile bootstrap interval of the mean, 95 %."""
    draws = np.random.default_rng(seed).integers(0, len(values), (_RESAMPLES, len(values)))
    low, high = np.quantile(values[draws].mean(axis=1), [0.025, 0.975])
    return float(low), float(high)
