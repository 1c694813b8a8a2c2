"""Alignment of cells: which member of each cell belongs to which class.

Where the names of a class follow cells common to all classes, each cell holds each class once. The
mean row of (class, cell) is taken as cell effect plus class effect; after removing the cell effect
the classes are found by matching all cells at once.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from clicooper_hpc.attacks.labels.grouping import equal_groups

__all__ = ["align_cells", "cell_residuals", "find_cells", "match_cell_scores"]

_ITERATIONS = 60
# Bounds the time where there are many cells: assignments tried for one matching, of up to 20
# classes; fewer in proportion to the square of more.
_MOST_ASSIGNMENTS, _FEW_CLASSES = 40_000, 20


def find_cells(
    means: NDArray[np.float64], cells: int, classes: int, seed: int, *, starts: int = 10
) -> NDArray[np.int64]:
    """Return the cell of each sub-label from mean rows [s, d]: each class at most once a cell."""
    found = equal_groups(means, cells, classes, seed, starts=starts)
    # Numbered without gaps, should a cell have stayed empty.
    return np.unique(found, return_inverse=True)[1].astype(np.int64)


def cell_residuals(
    means: NDArray[np.float64], cell_of: NDArray[np.int64], *, drop_span: bool = False
) -> NDArray[np.float64]:
    """Return means [s, d] less the mean of their cell.

    ``drop_span`` also projects out the directions between the cells, in which a cell cuts each
    class off elsewhere.
    """
    cells = int(cell_of.max()) + 1
    centres = np.stack([means[cell_of == cell].mean(axis=0) for cell in range(cells)])
    left = means - centres[cell_of]
    if drop_span and cells > 1:
        # Where cells cut a class off is where their centres differ.
        between = centres - centres.mean(axis=0)
        _, values, directions = np.linalg.svd(between, full_matrices=False)
        span = directions[values > 1e-9 * max(float(values.max()), 1e-300)]
        left = left - (left @ span.T) @ span
    return np.asarray(left, dtype=np.float64)


def align_cells(
    points: NDArray[np.float64], cell_of: NDArray[np.int64], seed: int, *, starts: int = 20
) -> NDArray[np.int64]:
    """Return the class of each point when each cell holds each class once.

    Maximises the inner products of points of one class over pairs of cells, the least-squares
    fit of one effect a class: each cell in turn is assigned to the class means of all others.

    Parameters
    ----------
    points
        float64 [s, d], without their cells' means.
    cell_of
        int64 [s], the cell of each.
    starts
        Beginnings: each cell as reference, then random ones.
    """
    return match_cell_scores(points @ points.T, cell_of, seed, starts=starts)


def match_cell_scores(
    scores: NDArray[np.float64], cell_of: NDArray[np.int64], seed: int, *, starts: int = 20
) -> NDArray[np.int64]:
    """Return the class of each member when ``scores`` [s, s] say how similar members are.

    Multi-way matching by cyclic optimal assignment; the start with the largest sum of scores
    within classes, across cells, wins.
    """
    # Networks of either cell may judge the other; both count the same.
    both = (scores + scores.T) / 2
    members = [np.flatnonzero(cell_of == cell) for cell in range(int(cell_of.max()) + 1)]
    members = [group for group in members if len(group)]
    classes = max(len(group) for group in members)
    rng = np.random.default_rng(seed)
    # Members of one cell are of different classes by construction: their scores would mislead.
    across = both * (cell_of[:, None] != cell_of[None, :])
    best, best_value = np.zeros(len(cell_of), dtype=np.int64), -np.inf
    most = _MOST_ASSIGNMENTS * _FEW_CLASSES**2 // max(classes, _FEW_CLASSES) ** 2
    tries = max(2, min(max(starts, len(members)), most // (10 * len(members))))
    rounds = max(3, min(_ITERATIONS, most // (tries * len(members))))
    for start in range(tries):
        chosen = np.full(len(cell_of), -1, dtype=np.int64)
        # Each cell once as reference, since any of them may be a bad one.
        if start < len(members):
            first = members[start]
            chosen[first] = np.arange(len(first))
        else:
            for group in members:
                chosen[group] = rng.permutation(classes)[: len(group)]
        onehot = np.zeros((len(chosen), classes))
        placed = np.flatnonzero(chosen >= 0)
        onehot[placed, chosen[placed]] = 1.0
        # A fixed order would favour the first cells.
        order = rng.permutation(len(members))
        for _ in range(rounds):
            before = chosen.copy()
            for cell in order:
                group = members[cell]
                # Scores within the cell are zero, so its own members need not be taken out.
                which, where = linear_sum_assignment(-(across[group] @ onehot))
                chosen[group[which]] = where
                onehot[group] = 0.0
                onehot[group[which], where] = 1.0
            if np.array_equal(before, chosen):
                break
        value = float(across[chosen[:, None] == chosen[None, :]].sum())
        if value > best_value:
            best, best_value = chosen, value
    return best
