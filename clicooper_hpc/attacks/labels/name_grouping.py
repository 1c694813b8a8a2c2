"""What secret names tell where every class has one: images of one class get one name.

There is nothing to merge then. Names are classes under an order that only the owner knows, and who
trains on rows and names learns to name images, its own included: that groups them, and a labelled
image of each class undoes the order. It is what the trainers' work is for, so no noise hides it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Final

import numpy as np
from numpy.typing import NDArray
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from clicooper_hpc.attacks.harness.adversary import (
    NO_SAMPLE_LEFT,
    AdversaryView,
    AuxiliaryData,
    GroundTruth,
)
from clicooper_hpc.attacks.harness.attack import AttackResult
from clicooper_hpc.attacks.labels.grouping_metrics import (
    adjusted_rand,
    hungarian_accuracy,
    hungarian_chance,
)
from clicooper_hpc.attacks.toolbox.confidence_interval import clopper_pearson_interval
from clicooper_hpc.attacks.toolbox.label_names import draw_labelled_samples, learn_label_names
from clicooper_hpc.attacks.toolbox.segment_features import enters_first_segment

__all__ = ["cannot_name_images", "score_named_images"]

_LABELS: Final = (1, 10)

#: Scores of names float64 [n, names] for images float32 [n, channels, height, width].
NameScores = Callable[[NDArray[np.float32]], NDArray[np.float64]]


def cannot_name_images(view: AdversaryView) -> str | None:
    """Say why a party cannot name images of its own; None if it can."""
    if view.front is None:
        return "the front is not public"
    if len(view.rows):
        if enters_first_segment(view):
            return None
        return f"{NO_SAMPLE_LEFT}, and the party cannot make inputs of its own"
    # Who holds no rows needs the whole network.
    return None if view.segments else NO_SAMPLE_LEFT


def score_named_images(
    view: AdversaryView, aux: AuxiliaryData, truth: GroundTruth, seed: int
) -> tuple[AttackResult, ...]:
    """Name held-out images, and compare the names with their classes.

    Groups of equal names: adjusted Rand index and Hungarian accuracy, beside k-means of the same
    rows without any name. Classes read with 1 or 10 labelled images a class: accuracy, beside the
    nearest class mean of these images.
    """
    from sklearn.cluster import KMeans

    true, classes = truth.test.classes, truth.classes
    name_scores = _name_scores(view, truth)
    groups = np.asarray(name_scores(truth.test.images).argmax(axis=1), dtype=np.int64)
    rows = _flat_rows(view, truth.test.images)
    blind = np.asarray(
        KMeans(classes, n_init=3, random_state=seed).fit_predict(rows), dtype=np.int64
    )
    result = partial(
        AttackResult,
        attack="merge",
        variant="names of images",
        party=view.adversary.name,
        kind="honest",
        seed=seed,
        note=f"{len(true)} images; baseline: the same images without names",
    )
    found = [
        result(
            metric="ARI of images by name",
            value=adjusted_rand(groups, true),
            chance=0.0,
            baseline=adjusted_rand(blind, true),
        ),
        result(
            metric="Hungarian accuracy of images by name",
            value=hungarian_accuracy(groups, true),
            chance=hungarian_chance(groups, true, seed, draws=50),
            baseline=hungarian_accuracy(blind, true),
        ),
    ]
    rng = np.random.default_rng(seed)
    for each in _LABELS:
        drawn = draw_labelled_samples(aux.same.classes, each, rng)
        images, known = aux.same.images[drawn], aux.same.classes[drawn]
        names = learn_label_names(name_scores(images), known, classes)
        right = names[groups] == true
        low, high = clopper_pearson_interval(int(right.sum()), len(right))
        found.append(
            result(
                metric=f"accuracy, names read with {each} per class",
                value=float(right.mean()),
                low=low,
                high=high,
                chance=1 / classes,
                baseline=_nearest_mean(_flat_rows(view, images), known, rows, true),
            )
        )
    return tuple(one for one in found if not math.isnan(one.value))


def _name_scores(view: AdversaryView, truth: GroundTruth) -> NameScores:
    if not len(view.rows):
        # Whoever was given no rows asks the delivered network.
        return truth.predict
    # A name that hardly any row has is never given: one row has no spread.
    often = np.bincount(view.sub_labels, minlength=view.sub_label_count) > 1
    used = often[view.sub_labels]
    linear = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto")
    if often.sum() > 1:
        linear.fit(view.rows.reshape(len(view.rows), -1)[used], view.sub_labels[used])

    def scores(images: NDArray[np.float32]) -> NDArray[np.float64]:
        found = np.zeros((len(images), view.sub_label_count))
        if often.sum() > 1:
            found[:, often] = linear.predict_proba(_flat_rows(view, images))
        return found

    return scores


def _flat_rows(view: AdversaryView, images: NDArray[np.float32]) -> NDArray[np.float32]:
    if view.front is None:
        raise ValueError("images have rows behind a public front alone")
    return view.front(images).reshape(len(images), -1)


def _nearest_mean(
    rows: NDArray[np.float32],
    classes: NDArray[np.int64],
    asked: NDArray[np.float32],
    true: NDArray[np.int64],
) -> float:
    seen = np.unique(classes)
    means = np.stack([rows[classes == one].mean(axis=0) for one in seen])
    # The row's own square is the same for all classes.
    nearest = np.argmin((means**2).sum(axis=1) - 2 * asked @ means.T, axis=1)
    return float((seen[nearest] == true).mean())
