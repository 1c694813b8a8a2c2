"""How well a grouping agrees with the classes: per sample and per sub-label, with chance levels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

__all__ = [
    "adjusted_rand",
    "contingency_table",
    "exactly_recovered",
    "groups_found",
    "hungarian_accuracy",
    "hungarian_chance",
    "pair_f1",
]

Labels = NDArray[np.int64]


def contingency_table(found: Labels, truth: Labels) -> NDArray[np.int64]:
    """Return how often found group i meets true class j: int64 [groups, classes]."""
    shape = (int(found.max(initial=0)) + 1, int(truth.max(initial=0)) + 1)
    # One bincount of pairs: chance levels ask for this table ten thousands of times.
    flat = np.bincount(found * shape[1] + truth, minlength=shape[0] * shape[1])
    return flat.reshape(shape).astype(np.int64)


def hungarian_accuracy(found: Labels, truth: Labels) -> float:
    """Return the share of samples right under the best one-to-one naming of the groups."""
    table = contingency_table(found, truth)
    rows, columns = linear_sum_assignment(-table)
    return float(table[rows, columns].sum()) / max(len(truth), 1)


def hungarian_chance(found: Labels, truth: Labels, seed: int, *, draws: int = 200) -> float:
    """Return the mean Hungarian accuracy of the same groups dealt at random.

    Above 1/K for finite n, since the best of all namings is taken.
    """
    rng = np.random.default_rng(seed)
    scores = [hungarian_accuracy(rng.permutation(found), truth) for _ in range(draws)]
    return float(np.mean(scores))


def groups_found(found: Labels, truth: Labels, *, least: float = 0.9) -> float:
    """Return the share of classes that some group holds with purity and recall >= ``least``.

    Our reading of a published "clustering success of 0 %": such a figure lies below blind chance
    of any per-sample score, so it must be a success that has a threshold.
    """
    table = contingency_table(found, truth).astype(np.float64)
    purity = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    recall = table / np.maximum(table.sum(axis=0, keepdims=True), 1)
    # Classes that do not occur can be neither found nor missed.
    present = table.sum(axis=0) > 0
    held = np.any((purity >= least) & (recall >= least), axis=0)
    return float(held[present].mean())


def adjusted_rand(found: Labels, truth: Labels) -> float:
    """Return the adjusted Rand index: 1 for the same groups, 0 on average for blind ones.

    Hubert and Arabie, "Comparing partitions", Journal of Classification 2 (1985). As
    scikit-learn's, without its checks: chance levels ask for it ten thousands of times.
    """
    table = contingency_table(found, truth)
    both, guessed, true = (
        _grouping_pairs(table),
        _grouping_pairs(table.sum(axis=1)),
        _grouping_pairs(table.sum(axis=0)),
    )
    n = int(table.sum())
    expected = guessed * true / max(n * (n - 1) / 2, 1)
    most = (guessed + true) / 2
    # One group and one class: any guess is right, and the index is 0 / 0.
    return 1.0 if most == expected else (both - expected) / (most - expected)


def pair_f1(found: Labels, truth: Labels) -> float:
    """Return F1 over pairs of points: together in the guess against together in the truth.

    Its blind level is the share of pairs that are together, not 0.
    """
    table = contingency_table(found, truth)
    both = _grouping_pairs(table)
    guessed, true = _grouping_pairs(table.sum(axis=1)), _grouping_pairs(table.sum(axis=0))
    return 2 * both / (guessed + true) if guessed + true else 1.0


def exactly_recovered(found: Labels, truth: Labels) -> float:
    """Return the share of classes whose members are exactly one found group."""
    table = contingency_table(found, truth)
    # All of the group in this class, and all of this class in the group.
    whole = (table == table.sum(axis=1, keepdims=True)) & (table == table.sum(axis=0))
    present = table.sum(axis=0) > 0
    return float(np.any(whole & (table > 0), axis=0)[present].mean())


def _grouping_pairs(counts: NDArray[np.int64]) -> int:
    return int(np.sum(counts.astype(np.int64) * (counts - 1) // 2))
