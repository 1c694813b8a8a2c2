"""Names of classes for sub-labels: guessed, learnt from a few labels, or the best there are.

A network that answers sub-labels is worth what its names are worth. Score the same network with
every rule, or a low figure says nothing but that the names were wrong.
"""

from __future__ import annotations

from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

__all__ = [
    "NAMING_RULES",
    "NamingRule",
    "best_label_names",
    "class_scores_by_name",
    "draw_labelled_samples",
    "identity_label_names",
    "learn_label_names",
]

NamingRule = Literal["modulo", "quotient"]
NAMING_RULES: Final[tuple[NamingRule, ...]] = ("modulo", "quotient")


def identity_label_names(sub_labels: int, classes: int, rule: NamingRule) -> NDArray[np.int64]:
    """Return the blind guess of an adversary who takes sub-label numbers for class numbers.

    Parameters
    ----------
    sub_labels, classes
        gamma K and K.
    rule
        ``"modulo"``: sub-label mod K; ``"quotient"``: sub-label // gamma.

    Returns
    -------
    NDArray[np.int64]
        [gamma K], class of each sub-label; right by chance, 1/K of them on average.
    """
    numbers = np.arange(sub_labels, dtype=np.int64)
    if rule == "modulo":
        return numbers % classes
    # Where K does not divide the number of names, the last class takes what is left.
    return np.minimum(numbers // max(1, sub_labels // classes), classes - 1)


def learn_label_names(
    probabilities: NDArray[np.float64], classes: NDArray[np.int64], class_count: int
) -> NDArray[np.int64]:
    """Name each sub-label after the class whose labelled samples give it the most probability.

    Parameters
    ----------
    probabilities
        float64 [n, gamma K], answers to labelled samples.
    classes
        int64 [n].
    class_count
        K. Every class counts the same, however many samples it has.

    Returns
    -------
    NDArray[np.int64]
        [gamma K].
    """
    counts = np.bincount(classes, minlength=class_count)
    sums = np.zeros((class_count, probabilities.shape[1]))
    np.add.at(sums, classes, probabilities)
    # Means, not sums: a class with more labelled samples would take every name.
    means = sums / np.maximum(counts, 1)[:, None]
    return np.asarray(means.argmax(axis=0), dtype=np.int64)


def best_label_names(
    probabilities: NDArray[np.float64], classes: NDArray[np.int64], class_count: int
) -> NDArray[np.int64]:
    """Return the best many-to-one map of predicted sub-labels to classes, for these samples.

    Each sub-label is named after the most frequent class among the samples it is predicted for: no
    map scores higher on them when the most probable sub-label is taken.
    """
    counts = np.zeros((probabilities.shape[1], class_count), dtype=np.int64)
    np.add.at(counts, (probabilities.argmax(axis=1), classes), 1)
    return np.asarray(counts.argmax(axis=1), dtype=np.int64)


def class_scores_by_name(
    probabilities: NDArray[np.float64],
    names: NDArray[np.int64],
    class_count: int,
    *,
    pooled: bool,
) -> NDArray[np.float64]:
    """Turn sub-label probabilities [n, gamma K] into those of classes: float64 [n, K].

    Added up by name, or ``pooled``: the mean logarithm over the names of a class, normalised. The
    owner does one or the other (`clicooper_hpc.owner.class_pooling`); an attacker may try both.
    """
    chosen = np.zeros((len(names), class_count))
    chosen[np.arange(len(names)), names] = 1.0
    if not pooled:
        return np.asarray(probabilities @ chosen, dtype=np.float64)
    sizes = chosen.sum(axis=0)
    logs = np.log(np.maximum(probabilities, np.finfo(np.float64).tiny)) @ chosen
    # A class nobody has a name for is never answered.
    means = np.where(sizes > 0, logs / np.maximum(sizes, 1), -np.inf)
    return np.asarray(softmax(means, axis=1), dtype=np.float64)


def draw_labelled_samples(
    classes: NDArray[np.int64], per_class: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Draw the same number of samples of each class that occurs, fewer where there are fewer.

    Returns
    -------
    NDArray[np.int64]
        Their places, in the order of the classes.
    """
    return np.concatenate(
        [rng.permutation(np.flatnonzero(classes == one))[:per_class] for one in np.unique(classes)]
    ).astype(np.int64)
