"""How many of the owner's samples have a property, told from sums over all of them.

Property inference on a whole data set (Ateniese et al., International Journal of Security and
Networks 10, 2015), with the best linear statistic of the released sums (`summed_witness`) in place
of a trained classifier of models. Two questions. How large is the share in the owner's own data
set? And the game of the papers: of two data sets that differ in the share, which one was released?
The guarantee is for a sample, so it allows m times its mu where data sets differ in m samples: that
is the ceiling, and it is soon no limit at all.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from clicooper_hpc.attacks.harness.adversary import (
    AdversaryView,
    AuxiliaryData,
    GroundTruth,
    LabelledImages,
)
from clicooper_hpc.attacks.harness.attack import AttackResult
from clicooper_hpc.attacks.harness.summed_release import SummedRelease
from clicooper_hpc.attacks.toolbox.confidence_interval import bootstrap_interval
from clicooper_hpc.attacks.toolbox.image_properties import image_properties
from clicooper_hpc.attacks.toolbox.named_rows import (
    public_labelled_rows,
    read_named_classes,
    released_behind_names,
)
from clicooper_hpc.attacks.toolbox.segment_features import enters_first_segment
from clicooper_hpc.attacks.toolbox.summed_mechanism import recorded_mechanism, released_noise
from clicooper_hpc.attacks.toolbox.summed_rows import summed_rows
from clicooper_hpc.attacks.toolbox.summed_witness import fit_summed_witness

__all__ = ["score_property_games", "score_property_shares"]

# The system to solve is as large as half of the attacker's own images.
_OWN: Final = 4000
_POOL: Final = 20_000
#: Data sets released in a game, half of them at either rate.
_SETS: Final = 64
#: How far apart the two rates are, around an even half.
_APART: Final = (0.1, 0.01)


def score_property_shares(
    view: AdversaryView, aux: AuxiliaryData, truth: GroundTruth, seed: int, scale: float
) -> tuple[AttackResult, ...]:
    """Return how far off the guessed shares of the owner's samples are, property by property.

    From the released sums, or from what names of public rows show of them. The baseline says the
    share of the attacker's own images. None for whoever has neither.
    """
    release = _release_of(view, aux)
    if release is None:
        return ()
    known, values = _own_images(aux, seed, scale)
    rows = summed_rows(view, known)
    results = []
    for name, has in values(known).items():
        witness = fit_summed_witness(rows, has, release, release.samples)
        if witness is None:
            continue
        expected = float(has.mean())
        true = float(values(truth.train)[name].mean())
        guessed = witness.share_of(release, expected)
        results.append(
            AttackResult(
                attack="property",
                variant=f"share of samples, {name}",
                party=view.adversary.name,
                metric="MSE of the share, in percent points squared",
                kind="honest",
                value=(100 * (guessed - true)) ** 2,
                baseline=(100 * (expected - true)) ** 2,
                seed=seed,
                note=f"guessed {guessed:.1%}, is {true:.1%}, {expected:.1%} of {len(known)} images "
                "of its own; a property of the data set, which no guarantee for a sample hides",
            )
        )
    return tuple(results)


def score_property_games(
    view: AdversaryView, aux: AuxiliaryData, truth: GroundTruth, seed: int, scale: float
) -> tuple[AttackResult, ...]:
    """Return how well releases of data sets at two rates of a property are told apart: the AUC.

    Data sets are drawn from the owner's samples, at most 20,000, and released 64 in all by the
    run's own mechanism with fresh noise. For whoever held the sums: nobody else is given any.
    """
    if view.held is None:
        return ()
    like, spec, mu = view.held.exact, view.mechanism.spec, view.mechanism.mu
    rng = np.random.default_rng([seed, 2])
    chosen = np.sort(rng.permutation(len(truth.train))[: max(200, round(_POOL * scale))])
    pool = LabelledImages(truth.train.images[chosen], truth.train.classes[chosen])
    known, values = _own_images(aux, seed, scale)
    rows, own = summed_rows(view, pool), summed_rows(view, known)
    like = replace(like, sigma=0.0 if spec is None else spec.sigma)
    games = []
    for name, has in values(known).items():
        there = values(pool)[name]
        for apart in _APART:
            # As many as both rates can be drawn of, without taking a sample twice.
            size = math.floor(min(there.sum(), (~there).sum()) / (0.5 + apart / 2))
            counts = [round(size * (0.5 + sign * apart / 2)) for sign in (1, -1)]
            witness = fit_summed_witness(own, has, like, size) if size > 1 else None
            # Too few samples for two rates.
            if witness is None or counts[0] == counts[1]:
                continue
            added = witness.of_samples(rows, like)
            games.append((name, apart, size, counts, witness, there, added))
    scores = np.zeros((len(games), _SETS))
    mechanism = None if spec is None else recorded_mechanism(view.release, spec, "property", seed)
    high = np.arange(_SETS) % 2 == 0
    for number in range(_SETS):
        noise = None if mechanism is None else released_noise(mechanism, like, number)
        for at, (_, _, size, counts, witness, there, added) in enumerate(games):
            count = counts[0] if high[number] else counts[1]
            # The statistic is a sum over samples, so their parts need not be summed up first.
            scores[at, number] = added[_drawn_samples(rng, there, count, size)].sum()
            if noise is not None:
                scores[at, number] += witness.of_release(noise)
    results = []
    for (name, apart, size, counts, *_), score in zip(games, scores, strict=True):
        auc = partial(_auc, high, score)
        low, top = bootstrap_interval(auc, _SETS, seed)
        moved = abs(counts[0] - counts[1])
        results.append(
            AttackResult(
                attack="property",
                variant=f"two rates, {name}",
                party=view.adversary.name,
                metric=f"AUC, {50 + 50 * apart:g} % of samples against {50 - 50 * apart:g} %",
                kind="honest",
                value=auc(np.arange(_SETS)),
                low=low,
                high=top,
                chance=0.5,
                baseline=0.5,
                ceiling=float(ndtr(moved * mu / math.sqrt(2))) if math.isfinite(mu) else math.nan,
                seed=seed,
                note=f"{_SETS} releases of {size} of the owner's samples; {moved} of them differ",
            )
        )
    return tuple(results)


def _release_of(view: AdversaryView, aux: AuxiliaryData) -> SummedRelease | None:
    """Return the sums that the party holds, or those that the names of public rows show it."""
    if view.held is not None:
        return view.held.released
    if not len(view.rows) or not enters_first_segment(view):
        return None
    behind = released_behind_names(view, public_labelled_rows(view, aux))
    return None if behind is None else read_named_classes(behind, summed_rows(view, aux.same))


class _PropertyValues:
    """Which images have each property, bool [n] by name."""

    def __init__(self, images: NDArray[np.float32]) -> None:
        # Thresholds of the attacker's images.
        self._found = image_properties(images)

    def __call__(self, images: LabelledImages) -> dict[str, NDArray[np.bool_]]:
        named = {}
        for one in self._found:
            values = one.of(images.images)
            for value in range(1 if one.values == 2 else 0, one.values):
                name = one.name if one.values == 2 else f"{one.name} {value}"
                named[name] = values == value
        return named


def _own_images(
    aux: AuxiliaryData, seed: int, scale: float
) -> tuple[LabelledImages, _PropertyValues]:
    """Return some of the attacker's own images, and what tells their properties."""
    order = np.random.default_rng(seed).permutation(len(aux.same))[: max(200, round(_OWN * scale))]
    known = LabelledImages(aux.same.images[order], aux.same.classes[order])
    return known, _PropertyValues(known.images)


def _drawn_samples(
    rng: np.random.Generator, there: NDArray[np.bool_], count: int, size: int
) -> NDArray[np.int64]:
    """Draw ``count`` samples with the property and the rest of ``size`` without it."""
    inside, outside = np.flatnonzero(there), np.flatnonzero(~there)
    return np.concatenate(
        [rng.permutation(inside)[:count], rng.permutation(outside)[: size - count]]
    )


def _auc(high: NDArray[np.bool_], scores: NDArray[np.float64], at: NDArray[np.int64]) -> float:
    # Few enough for every pair, which takes a hundredth of the time that sorting curves does.
    first, second = scores[at][high[at]], scores[at][~high[at]]
    # A draw of one kind only has none.
    if not len(first) or not len(second):
        return math.nan
    return float((1 + np.sign(first[:, np.newaxis] - second).mean()) / 2)
