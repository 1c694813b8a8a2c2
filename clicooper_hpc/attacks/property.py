"""Properties of training images that are not the task: brightness, dominant colour.

Mao et al., "Secure Split Learning against Property Inference, Data Reconstruction, and Feature
Space Hijacking Attacks", arXiv 2304.09515: a classifier of the property is trained on
rows of the attacker's own images. Here these are released as the owner's are, with the same noise,
so the classifier knows what noise to see through; the better one of a linear and a neural
classifier is kept, as told by images of the attacker's own that neither was trained on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from clicooper_hpc.attacks.harness.registry import Attack, Outcome
from clicooper_hpc.attacks.harness.result import AttackResult
from clicooper_hpc.attacks.harness.view import Aux, Truth, View
from clicooper_hpc.attacks.rates import bootstrap
from clicooper_hpc.attacks.shadow_data import clean_rows, released_alike, sees_released_rows
from clicooper_hpc.attacks.surrogate import evaluate, fit, row_network, seeded
from clicooper_hpc.privacy.ceiling import gaussian_ceiling

__all__ = ["PROPERTY", "Property", "PropertyGuess", "guess", "properties_of"]

#: Log-odds of each value float64 [n, values] against its share, of rows float64 [n, components].
_Classifier = Callable[[NDArray[np.float64]], NDArray[np.float64]]

_AUX_IMAGES: Final = 10_000
_COMPONENTS: Final = 256
_DRAWS: Final = 5
_EPOCHS: Final = 10
_HELD_OUT: Final = 0.2


@dataclass(frozen=True, slots=True)
class Property:
    """A property of an image: ``of`` maps float32 [n, channels, height, width] to int64 [n]."""

    name: str
    values: int
    of: Callable[[NDArray[np.float32]], NDArray[np.int64]]


@dataclass(frozen=True, slots=True)
class PropertyGuess:
    """What was made of the view's rows: log-odds float64 [m, values], and by which classifier."""

    scores: NDArray[np.float64]
    classifier: str


def properties_of(images: NDArray[np.float32]) -> tuple[Property, ...]:
    """Return the properties to look for, thresholds taken from the attacker's ``images``."""
    median = float(np.median(_brightness(images)))
    found = [Property("brightness above median", 2, partial(_brighter, median=median))]
    if images.shape[1] == 3:
        found.append(Property("dominant colour channel", 3, _dominant))
    return tuple(found)


def guess(view: View, aux: Aux, seed: int, scale: float) -> Mapping[str, PropertyGuess]:
    """Train on rows of ``aux.same`` released alike; judge each of the view's rows, by property."""
    rng = np.random.default_rng(seed)
    number = min(len(aux.same), max(100, round(_AUX_IMAGES * scale)))
    chosen = rng.permutation(len(aux.same))[:number]
    images, classes = aux.same.images[chosen], aux.same.classes[chosen]
    clean = clean_rows(view, images)
    flat = clean.reshape(number, -1)
    rank = min(_COMPONENTS, flat.shape[1], number - 1)
    basis = PCA(rank, random_state=seed).fit(flat)

    def project(rows: NDArray[np.float32]) -> NDArray[np.float64]:
        return np.asarray(basis.transform(rows.reshape(len(rows), -1)), dtype=np.float64)

    draws = max(1, round(_DRAWS * scale)) if view.mechanism.sigma > 0 or _grouped(view) else 1
    rows = [project(released_alike(view, clean, classes, rng)) for _ in range(draws)]
    kept = round(number * (1 - _HELD_OUT))
    learn = np.concatenate([one[:kept] for one in rows])
    spread = float(learn.std()) or 1.0
    own = project(view.rows)
    verdicts = {}
    for found in properties_of(images):
        values = found.of(images)
        known = np.tile(values[:kept], draws)
        candidates = {
            "linear": _linear(learn, known, found.values),
            "neural": _neural(learn / spread, known, found.values, seed, scale, spread),
        }
        tried = {
            name: _balanced(one(rows[0][kept:]).argmax(axis=1), values[kept:], found.values)
            for name, one in candidates.items()
        }
        best = max(tried, key=lambda name: tried[name])
        verdicts[found.name] = PropertyGuess(candidates[best](own), best)
    return verdicts


def score(
    verdicts: Mapping[str, PropertyGuess], view: View, aux: Aux, truth: Truth, seed: int
) -> tuple[AttackResult, ...]:
    """Return balanced accuracies over the owner's samples; bootstrap intervals over them, 95 %.

    A sample that is in several rows is judged by the sum of their log-odds.
    """
    ids = np.unique(view.groups)
    samples, classes = truth.train.images[ids], truth.train.classes[ids]
    single = not _grouped(view) and len(ids) == len(view.groups)
    mechanism = view.mechanism
    findings = []
    for found in properties_of(aux.same.images):
        verdict, values = verdicts[found.name], found.of(samples)
        if len(np.unique(values)) < found.values:
            continue
        sums = np.zeros((len(truth.train), found.values))
        for column in view.groups.T:
            np.add.at(sums, column, verdict.scores)
        judged = sums[ids].argmax(axis=1)
        by_class = _by_class(aux, found)[classes]
        low, high = bootstrap(
            lambda at, judged=judged, values=values, count=found.values: _balanced(  # type: ignore[misc]
                judged[at], values[at], count
            ),
            len(ids),
            seed,
        )
        ceiling = math.nan
        if single and mechanism.sigma > 0:
            ceiling = gaussian_ceiling(found.values, mechanism.radius, mechanism.sigma)
        findings.append(
            AttackResult(
                attack="property",
                variant=found.name,
                party=view.party.name,
                metric="balanced accuracy",
                kind="honest",
                value=_balanced(judged, values, found.values),
                low=low,
                high=high,
                chance=1 / found.values,
                baseline=_balanced(by_class, values, found.values),
                ceiling=ceiling,
                seed=seed,
                note=f"{verdict.classifier} classifier; baseline: told the true class, not the row",
            )
        )
    return tuple(findings)


def _run(view: View, aux: Aux, truth: Truth, seed: int, scale: float) -> Outcome:
    return Outcome(score(guess(view, aux, seed, scale), view, aux, truth, seed))


def _linear(rows: NDArray[np.float64], values: NDArray[np.int64], count: int) -> _Classifier:
    fitted = LinearDiscriminantAnalysis(
        solver="lsqr", shrinkage="auto", priors=np.full(count, 1 / count)
    ).fit(rows, values)

    def classify(given: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(fitted.predict_log_proba(given), dtype=np.float64)

    return classify


def _neural(
    rows: NDArray[np.float64],
    values: NDArray[np.int64],
    count: int,
    seed: int,
    scale: float,
    spread: float,
) -> _Classifier:
    network = seeded(seed, row_network((rows.shape[1],), count))
    epochs = max(1, round(_EPOCHS * scale))
    fit(network, rows.astype(np.float32), np.eye(count)[values], epochs=epochs, seed=seed)
    shares = np.bincount(values, minlength=count) / len(values)

    def classify(given: NDArray[np.float64]) -> NDArray[np.float64]:
        likely = evaluate(network, (given / spread).astype(np.float32))
        return np.asarray(np.log(likely + 1e-12) - np.log(shares + 1e-12), dtype=np.float64)

    return classify


def _by_class(aux: Aux, found: Property) -> NDArray[np.int64]:
    """Return the value that each class makes most likelier than its share: int64 [K]."""
    values, classes = found.of(aux.same.images), aux.same.classes
    table = np.full((int(classes.max()) + 1, found.values), 1e-9)
    np.add.at(table, (classes, values), 1)
    lift = table / table.sum(axis=1, keepdims=True) / table.sum(axis=0)
    return np.asarray(lift.argmax(axis=1), dtype=np.int64)


def _balanced(judged: NDArray[np.int64], values: NDArray[np.int64], count: int) -> float:
    """Return the mean over values of the share found; values that do not occur are left out."""
    all_of = np.bincount(values, minlength=count)
    right = np.bincount(values[judged == values], minlength=count)
    seen = all_of > 0
    return float((right[seen] / all_of[seen]).mean())


def _grouped(view: View) -> bool:
    return int(view.groups.shape[1]) > 1


def _brightness(images: NDArray[np.float32]) -> NDArray[np.float64]:
    return np.asarray(images.mean(axis=(1, 2, 3), dtype=np.float64))


def _brighter(images: NDArray[np.float32], median: float) -> NDArray[np.int64]:
    return (_brightness(images) > median).astype(np.int64)


def _dominant(images: NDArray[np.float32]) -> NDArray[np.int64]:
    means = images.mean(axis=(2, 3), dtype=np.float64)
    return np.asarray(means.argmax(axis=1), dtype=np.int64)


PROPERTY: Final = Attack(
    name="property",
    knowledge="the public front, the noise, and 10,000 images of the same distribution",
    source="Mao et al., arXiv 2304.09515",
    applies=sees_released_rows,
    run=_run,
)
