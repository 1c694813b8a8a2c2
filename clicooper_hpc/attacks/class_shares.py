"""How many of the owner's samples are of each class, told from what released sums became.

Property inference on a whole data set (Ateniese et al., "Hacking smart machines with smarter ones",
International Journal of Security and Networks 10, 2015). Differential privacy of a sample does not
hide it, and is not meant to. With moments sizes are released, with noise of a few samples; class
sums alone show them nearly as well, beside the mean rows of the attacker's own images. Elsewhere
it shows in how often each name is given to a public row, and how often the delivered network
answers each name.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np
from numpy.typing import NDArray

from clicooper_hpc.attacks.harness.adversary import AdversaryView, AuxiliaryData, GroundTruth
from clicooper_hpc.attacks.harness.attack import AttackResult
from clicooper_hpc.attacks.harness.summed_release import SummedRelease
from clicooper_hpc.attacks.toolbox.summed_rows import LabelledRows, summed_rows

__all__ = ["ClassShares", "guess_class_shares", "score_class_shares", "sizes_of_sums"]

_ASKED: Final = 2000


@dataclass(frozen=True, slots=True, eq=False)
class ClassShares:
    """Guessed shares float64 [K], which add up to 1, of names or of classes."""

    shares: NDArray[np.float64]
    of_names: bool
    note: str


def guess_class_shares(
    view: AdversaryView, aux: AuxiliaryData, truth: GroundTruth
) -> dict[str, ClassShares]:
    """Return what the party makes of sizes, of names, and of the delivered network, by variant."""
    found = {}
    if view.held is not None:
        release = view.held.released
        if release.sizes is not None:
            sizes, name, note = release.sizes, "noised sizes", "from the moments"
        else:
            known = summed_rows(view, aux.same)
            sizes, name = sizes_of_sums(release, known), "class sums"
            note = f"sizes are not released; sums beside means of {len(known)} images of its own"
        sizes = np.maximum(sizes, 0.0)
        found[name] = ClassShares(sizes / sizes.sum(), False, note)
    if len(view.rows):
        names = np.bincount(view.sub_labels, minlength=view.sub_label_count).astype(np.float64)
        note = f"names of {len(view.rows)} public rows"
        found["names of rows"] = ClassShares(names / names.sum(), True, note)
    elif view.segments and view.front is not None:
        answers = truth.predict(aux.same.images[:_ASKED]).mean(axis=0)
        note = f"answers to {min(_ASKED, len(aux.same))} images of its own"
        found["answers of the network"] = ClassShares(answers / answers.sum(), True, note)
    return found


def sizes_of_sums(release: SummedRelease, known: LabelledRows) -> NDArray[np.float64]:
    """Return how many samples most likely made each class sum: float64 [K], 0 of unknown classes.

    A sum of n rows of the class of ``known`` is n times its mean, up to how rows vary and noise.
    """
    width, count = known.rows.shape[1], len(release.sums)
    expected = release.samples / count
    sizes = np.zeros(count)
    spread = np.atleast_2d(np.cov(known.rows.T))
    # A floor: a few rows of the attacker's own do not vary in every direction.
    floor = 1e-3 * np.trace(spread) / width * expected + release.sigma**2
    inverse = np.linalg.inv(expected * spread + floor * np.eye(width))
    for one in np.unique(known.classes):
        mean = known.rows[known.classes == one].mean(axis=0)
        filtered = inverse @ mean
        sizes[one] = release.sums[one] @ filtered / max(float(mean @ filtered), 1e-30)
    return sizes


def score_class_shares(
    guesses: dict[str, ClassShares], view: AdversaryView, truth: GroundTruth, seed: int
) -> tuple[AttackResult, ...]:
    """Return how far off the shares are, and how many pairs of classes are in the right order.

    Names are read with the owner's map, which favours the attacker. Nobody who looks at nothing
    says better than equal shares, or the right order of a pair by more than chance.
    """
    classes = truth.classes
    true = np.bincount(truth.train.classes, minlength=classes) / len(truth.train)
    results = []
    for variant, guess in guesses.items():
        shares = guess.shares
        note = guess.note
        if guess.of_names:
            shares = np.zeros(classes)
            np.add.at(shares, truth.class_of_sub_label, guess.shares)
            note += "; names read with the owner's map"
        result = partial(
            AttackResult,
            attack="property",
            variant=f"class shares, {variant}",
            party=view.adversary.name,
            kind="honest",
            seed=seed,
            note=f"{note}; a property of the data set, which no guarantee for a sample hides",
        )
        results.append(
            result(
                metric="MSE of class shares, in percent points squared",
                value=float(np.square(100 * (shares - true)).mean()),
                baseline=float(np.square(100 * (1 / classes - true)).mean()),
            )
        )
        right = _ordered_pairs(shares, true)
        results.append(
            result(
                metric="pairs of classes in the right order",
                value=right,
                chance=0.5,
                baseline=0.5,
            )
        )
    return tuple(one for one in results if not math.isnan(one.value))


def _ordered_pairs(shares: NDArray[np.float64], true: NDArray[np.float64]) -> float:
    """Return the share of pairs of unequal classes told apart rightly; nan if all are equal."""
    guessed = np.sign(shares[:, np.newaxis] - shares)
    wanted = np.sign(true[:, np.newaxis] - true)
    asked = wanted != 0
    # A tie is half a guess.
    return float((1 + guessed * wanted)[asked].mean() / 2) if asked.any() else math.nan
