"""Properties of training images that are not the task: brightness, dominant colour.

Mao et al., "Secure Split Learning against Property Inference, Data Reconstruction, and Feature
Space Hijacking Attacks", arXiv 2304.09515: a classifier of the property is trained on
rows of the attacker's own images. Here these are released as the owner's are, with the same noise,
so the classifier knows what noise to see through; the better one of a linear and a neural
classifier is kept, as told by images of the attacker's own that neither was trained on. Where no
rows of samples left, what is asked for is how many samples have a property (`property_shares`), or
are of each class (`class_shares`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from clicooper_hpc.attacks.class_shares import guess_class_shares, score_class_shares
from clicooper_hpc.attacks.harness.adversary import AdversaryView, AuxiliaryData, GroundTruth
from clicooper_hpc.attacks.harness.attack import Attack, AttackOutcome, AttackResult
from clicooper_hpc.attacks.property_shares import score_property_games, score_property_shares
from clicooper_hpc.attacks.toolbox.confidence_interval import bootstrap_interval
from clicooper_hpc.attacks.toolbox.image_properties import ImageProperty, image_properties
from clicooper_hpc.attacks.toolbox.shadow_data import (
    cannot_make_shadow_rows,
    clean_shadow_rows,
    release_shadow_rows,
)
from clicooper_hpc.attacks.toolbox.surrogate_network import (
    SurrogateTraining,
    evaluate_network,
    fit_network,
    row_network,
    seed_network,
)
from clicooper_hpc.privacy.ceiling import gaussian_ceiling

__all__ = [
    "PROPERTY",
    "PropertyGuess",
    "guess_properties",
    "likeliest_property_values",
]

#: Log-odds of each value float64 [n, values] against its share, of rows float64 [n, components].
_Classifier = Callable[[NDArray[np.float64]], NDArray[np.float64]]

_AUX_IMAGES: Final = 10_000
_COMPONENTS: Final = 256
_DRAWS: Final = 5
_EPOCHS: Final = 10
_HELD_OUT: Final = 0.2


@dataclass(frozen=True, slots=True)
class PropertyGuess:
    """What was made of the view's rows: log-odds float64 [m, values], and by which classifier."""

    scores: NDArray[np.float64]
    classifier: str


def likeliest_property_values(aux: AuxiliaryData, found: ImageProperty) -> NDArray[np.int64]:
    """Return the value that each class makes most likelier than its share: int64 [K]."""
    values, classes = found.of(aux.same.images), aux.same.classes
    # A class without an image makes no value likelier.
    table = np.full((int(classes.max()) + 1, found.values), 1e-9)
    np.add.at(table, (classes, values), 1)
    lift = table / table.sum(axis=1, keepdims=True) / table.sum(axis=0)
    return np.asarray(lift.argmax(axis=1), dtype=np.int64)


def guess_properties(
    view: AdversaryView, aux: AuxiliaryData, seed: int, scale: float
) -> Mapping[str, PropertyGuess]:
    """Train on shadow data made of ``aux.same``; judge each of the view's rows, by property."""
    rng = np.random.default_rng(seed)
    number = min(len(aux.same), max(100, round(_AUX_IMAGES * scale)))
    chosen = rng.permutation(len(aux.same))[:number]
    images, classes = aux.same.images[chosen], aux.same.classes[chosen]
    clean = clean_shadow_rows(view, images)
    flat = clean.reshape(number, -1)
    rank = min(_COMPONENTS, flat.shape[1], number - 1)
    basis = PCA(rank, random_state=seed).fit(flat)

    def project(rows: NDArray[np.float32]) -> NDArray[np.float64]:
        return np.asarray(basis.transform(rows.reshape(len(rows), -1)), dtype=np.float64)

    # Several draws of noise for each image, unless there is nothing random about its rows.
    draws = max(1, round(_DRAWS * scale)) if view.mechanism.sigma > 0 or _averages_rows(view) else 1
    rows = [project(release_shadow_rows(view, clean, classes, rng)) for _ in range(draws)]
    # Held out by image, so that no draw of a held-out image was trained on.
    kept = round(number * (1 - _HELD_OUT))
    learn = np.concatenate([one[:kept] for one in rows])
    # One factor for all components: their ratios carry the noise.
    spread = float(learn.std()) or 1.0
    own = project(view.rows)
    verdicts = {}
    for found in image_properties(images):
        values = found.of(images)
        known = np.tile(values[:kept], draws)
        candidates = {
            "linear": _linear_property_classifier(learn, known, found.values),
            "neural": _neural_property_classifier(
                learn / spread, known, found.values, seed, scale, spread
            ),
        }
        tried = {
            name: _balanced_property_accuracy(
                one(rows[0][kept:]).argmax(axis=1), values[kept:], found.values
            )
            for name, one in candidates.items()
        }
        # By images of its own; choosing with the truth would flatter the attacker.
        best = max(tried, key=lambda name: tried[name])
        verdicts[found.name] = PropertyGuess(candidates[best](own), best)
    return verdicts


def score_properties(
    verdicts: Mapping[str, PropertyGuess],
    view: AdversaryView,
    aux: AuxiliaryData,
    truth: GroundTruth,
    seed: int,
) -> tuple[AttackResult, ...]:
    """Return balanced accuracies over the owner's samples; bootstrap intervals over them, 95 %.

    A sample that is in several rows is judged by the sum of their log-odds.
    """
    ids = np.unique(view.groups)
    samples, classes = truth.train.images[ids], truth.train.classes[ids]
    single = not _averages_rows(view) and len(ids) == len(view.groups)
    mechanism = view.mechanism
    results = []
    for found in image_properties(aux.same.images):
        verdict, values = verdicts[found.name], found.of(samples)
        # A value that no sample has cannot be found.
        if len(np.unique(values)) < found.values:
            continue
        sums = np.zeros((len(truth.train), found.values))
        for column in view.groups.T:
            np.add.at(sums, column, verdict.scores)
        judged = sums[ids].argmax(axis=1)
        # Colour and brightness go with the class, which trainers see as sub-labels: only what
        # exceeds that is leaked.
        by_class = likeliest_property_values(aux, found)[classes]
        low, high = bootstrap_interval(
            lambda at, judged=judged, values=values, count=found.values: (
                _balanced_property_accuracy(  # type: ignore[misc]
                    judged[at], values[at], count
                )
            ),
            len(ids),
            seed,
        )
        ceiling = math.nan
        # The bound is for one released row; several rows of a sample tell more.
        if single and mechanism.sigma > 0:
            ceiling = gaussian_ceiling(found.values, mechanism.radius, mechanism.sigma)
        results.append(
            AttackResult(
                attack="property",
                variant=found.name,
                party=view.adversary.name,
                metric="balanced accuracy",
                kind="honest",
                value=_balanced_property_accuracy(judged, values, found.values),
                low=low,
                high=high,
                chance=1 / found.values,
                baseline=_balanced_property_accuracy(by_class, values, found.values),
                ceiling=ceiling,
                seed=seed,
                note=f"{verdict.classifier} classifier; baseline: told the true class, not the row",
            )
        )
    return tuple(results)


def _property_applies(view: AdversaryView) -> str | None:
    if not view.summed:
        return cannot_make_shadow_rows(view)
    return None if view.front is not None else "the front is not public"


def _run_property(
    view: AdversaryView, aux: AuxiliaryData, truth: GroundTruth, seed: int, scale: float
) -> AttackOutcome:
    if view.summed:
        # Rows of no sample: what is left to ask for is a property of all samples.
        shares = guess_class_shares(view, aux, truth)
        return AttackOutcome(
            (
                *score_class_shares(shares, view, truth, seed),
                *score_property_shares(view, aux, truth, seed, scale),
                *score_property_games(view, aux, truth, seed, scale),
            )
        )
    return AttackOutcome(
        score_properties(guess_properties(view, aux, seed, scale), view, aux, truth, seed)
    )


def _linear_property_classifier(
    rows: NDArray[np.float64], values: NDArray[np.int64], count: int
) -> _Classifier:
    fitted = LinearDiscriminantAnalysis(
        solver="lsqr", shrinkage="auto", priors=np.full(count, 1 / count)
    ).fit(rows, values)

    def classify(given: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(fitted.predict_log_proba(given), dtype=np.float64)

    return classify


def _neural_property_classifier(
    rows: NDArray[np.float64],
    values: NDArray[np.int64],
    count: int,
    seed: int,
    scale: float,
    spread: float,
) -> _Classifier:
    network = seed_network(seed, row_network((rows.shape[1],), count))
    epochs = max(1, round(_EPOCHS * scale))
    training = SurrogateTraining(epochs, seed)
    fit_network(network, rows.astype(np.float32), np.eye(count)[values], training)
    # Log-odds against the share: balanced accuracy counts values the same.
    shares = np.bincount(values, minlength=count) / len(values)

    def classify(given: NDArray[np.float64]) -> NDArray[np.float64]:
        likely = evaluate_network(network, (given / spread).astype(np.float32))
        return np.asarray(np.log(likely + 1e-12) - np.log(shares + 1e-12), dtype=np.float64)

    return classify


def _balanced_property_accuracy(
    judged: NDArray[np.int64], values: NDArray[np.int64], count: int
) -> float:
    """Return the mean over values of the share found; values that do not occur are left out."""
    all_of = np.bincount(values, minlength=count)
    right = np.bincount(values[judged == values], minlength=count)
    seen = all_of > 0
    return float((right[seen] / all_of[seen]).mean())


def _averages_rows(view: AdversaryView) -> bool:
    return int(view.groups.shape[1]) > 1


PROPERTY: Final = Attack(
    name="property",
    knowledge="the public front, the noise, and 10,000 images of the same distribution",
    source="Mao et al., arXiv 2304.09515",
    applies=_property_applies,
    run=_run_property,
)
