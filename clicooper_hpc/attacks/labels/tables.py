"""Groupings and confusions of sub-labels in an order that can be looked at."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from clicooper_hpc.attacks.labels.metrics import table_of

__all__ = ["by_class", "grouping_table", "sorted_confusion"]


def grouping_table(found: NDArray[np.int64], truth: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return how many sub-labels of true class i are in found group j, int64 [classes, groups].

    Groups are in the order that puts most on the diagonal; those without a class come last.

    Parameters
    ----------
    found, truth
        int64 [n]: group and class of each sub-label.
    """
    table = table_of(found, truth).T
    classes, groups = linear_sum_assignment(-table)
    named = groups[np.argsort(classes)]
    left = np.setdiff1d(np.arange(table.shape[1]), named)
    return table[:, np.concatenate([named, left]).astype(np.int64)]


def by_class(classes: NDArray[np.int64], seen: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the sub-labels that occur, sorted by class: int64 [<= gamma K]."""
    order = np.argsort(classes, kind="stable").astype(np.int64)
    return order[seen[order]]


def sorted_confusion(
    confusion: NDArray[np.float64], order: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return rows and columns of a confusion float64 [gamma K, gamma K] in ``order``."""
    return confusion[np.ix_(order, order)]
