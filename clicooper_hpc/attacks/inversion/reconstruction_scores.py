"""How like their originals an attacker's pictures are.

SSIM (Wang et al., IEEE TIP 2004; scikit-image, uniform 7x7 window or the largest odd one that fits,
data range 1), mean squared error, PSNR, and retrieval: is the true image the nearest, or among the
ten nearest, of 1000 candidates by squared error to the picture. Each figure stands beside that of
the mean image, which anybody has, and of a random other image. Intervals: percentile bootstrap over
samples, 95 %.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from clicooper_hpc.attacks.harness.adversary import (
    NO_SAMPLE_LEFT,
    AdversaryView,
    GroundTruth,
)
from clicooper_hpc.attacks.harness.attack import AttackResult, MetricKind
from clicooper_hpc.attacks.inversion.retrieval_scores import (
    RETRIEVAL_TOP,
    retrieval_candidates,
    retrieval_ceiling,
    retrieval_hits,
    retrieval_interval,
)

__all__ = [
    "Reconstruction",
    "cannot_reconstruct",
    "choose_reconstruction_inputs",
    "reconstruction_squared_errors",
    "reconstruction_ssim",
    "score_reconstruction",
]

_WINDOW = 7


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
    variant, note
        How they were made; what is known and how much was done, one line.
    kinds
        Kinds of metric that they stand for.
    """

    inputs: NDArray[np.int64]
    pictures: NDArray[np.float32]
    mean_image: NDArray[np.float32]
    others: NDArray[np.float32]
    variant: str
    note: str
    kinds: tuple[MetricKind, ...] = ("honest",)


def cannot_reconstruct(view: AdversaryView) -> str | None:
    """Say why no single image lies behind a row of ``view``; None if one does."""
    if view.summed:
        return NO_SAMPLE_LEFT
    if view.rows.size == 0:
        return "it was given no rows"
    if min(view.adversary.segments, default=1) > 1:
        return "it does not hold the segments before its own; together with trainer 1 it would"
    if view.groups.shape[1] != 1:
        return "its rows are means of several samples"
    return None


def choose_reconstruction_inputs(view: AdversaryView, count: int, seed: int) -> NDArray[np.int64]:
    """Draw at most ``count`` inputs of different samples, int64 [n], ascending."""
    # A sample that is in several inputs is asked about once.
    _, first = np.unique(view.groups[:, 0], return_index=True)
    drawn = np.random.default_rng(seed).permutation(first)[:count]
    return np.sort(drawn).astype(np.int64)


def reconstruction_ssim(
    originals: NDArray[np.float32], pictures: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Return the SSIM of each pair, float64 [n]; both float32 [n, channels, height, width]."""
    from skimage.metrics import structural_similarity

    side = min(originals.shape[2:])
    # SSIM needs an odd window that fits into the image.
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


def score_reconstruction(
    made: Reconstruction,
    view: AdversaryView,
    truth: GroundTruth,
    *,
    attack: str,
    seed: int,
) -> tuple[AttackResult, ...]:
    """Compare the pictures with the originals.

    ``AttackResult.baseline`` is the mean image's score, ``AttackResult.chance`` that of random
    other images, or k / m for retrieval.
    """
    targets = view.groups[made.inputs, 0]
    originals = truth.train.images[targets]
    candidates, true = retrieval_candidates(targets, truth, seed)
    # What anybody can say without a row: below it a picture is worth nothing.
    blank = np.broadcast_to(made.mean_image, originals.shape)
    tables: list[tuple[str, NDArray[np.float64], float, float, float]] = []
    guesses = (made.pictures, blank, made.others)
    likeness = [reconstruction_ssim(originals, guess) for guess in guesses]
    errors = [reconstruction_squared_errors(originals, guess) for guess in guesses]
    # 1e-10 bounds the PSNR of a perfect picture at 100 dB.
    loudness = [10 * np.log10(1 / np.maximum(error, 1e-10)) for error in errors]
    for metric, (own, mean, other) in (("SSIM", likeness), ("MSE", errors), ("PSNR dB", loudness)):
        tables.append((metric, own, float(mean.mean()), float(other.mean()), math.nan))
    for top in RETRIEVAL_TOP:
        # Among so few candidates the true one is always named.
        if top >= len(candidates):
            continue
        hits = retrieval_hits(made.pictures, candidates, true, top)
        mean = retrieval_hits(blank, candidates, true, top)
        ceiling = retrieval_ceiling(view.mechanism, top, len(candidates))
        name = f"retrieval top-{top} of {len(candidates)}"
        tables.append((name, hits, float(mean.mean()), top / len(candidates), ceiling))
    results = []
    for metric, values, baseline, chance, ceiling in tables:
        low, high = retrieval_interval(values, seed)
        results.append(
            AttackResult(
                attack=attack,
                variant=made.variant,
                party=view.adversary.name,
                metric=metric,
                kind="honest",
                value=float(values.mean()),
                low=low,
                high=high,
                chance=chance,
                baseline=baseline,
                ceiling=ceiling,
                seed=seed,
                note=f"{made.note}; {len(values)} pictures",
            )
        )
    return tuple(replace(result, kind=kind) for kind in made.kinds for result in results)
