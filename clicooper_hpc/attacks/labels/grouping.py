"""Grouping of points: groups of equal size, Ward, spectral, and cells of equal size."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.special import logsumexp
from sklearn.cluster import AgglomerativeClustering, KMeans, SpectralClustering, kmeans_plusplus

__all__ = ["deal_equal_groups", "equal_groups", "kmeans_groups", "spectral_groups", "ward_groups"]

_ITERATIONS = 50
# An optimal assignment takes the cube of the number of points: with more than these, groups settle
# by k-means first and are made equal at the end.
_MANY = 500
_STARTS_OF_MANY, _LAST_OF_MANY = 3, 3
_ROUNDS = 30


def kmeans_groups(
    points: NDArray[np.float64], groups: int, seed: int, *, starts: int = 10
) -> NDArray[np.int64]:
    """Return the k-means group of each point: float64 [n, d] to int64 [n]."""
    # There may be fewer points than groups where sub-labels have no rows.
    groups = min(groups, len(points))
    found = KMeans(groups, n_init=starts, random_state=seed).fit_predict(points)
    return np.asarray(found, dtype=np.int64)


def ward_groups(points: NDArray[np.float64], groups: int) -> NDArray[np.int64]:
    """Return the group of each point, merged by Ward's criterion: int64 [n]."""
    found = AgglomerativeClustering(min(groups, len(points))).fit_predict(points)
    return np.asarray(found, dtype=np.int64)


def equal_groups(
    points: NDArray[np.float64], groups: int, size: int, seed: int, *, starts: int = 8
) -> NDArray[np.int64]:
    """Return groups of at most ``size`` points, of least squared distance found.

    K-means whose assignment step is an optimal assignment to slots (Bradley, Bennett and Demiriz,
    "Constrained K-Means Clustering", MSR-TR-2000-65): what an attacker does who knows that every
    class has gamma sub-labels.

    Parameters
    ----------
    points
        float64 [n, d], n <= groups size.
    groups, size
        Number of groups, and how many points each has room for.
    starts
        The first from Ward's groups, the others from k-means++.
    """
    n = len(points)
    groups = min(groups, n)
    rng = np.random.default_rng(seed)
    squares = np.sum(points * points, axis=1)
    best, best_cost = np.zeros(n, dtype=np.int64), np.inf
    many = n > _MANY
    for start in range(min(starts, _STARTS_OF_MANY) if many else starts):
        # Ward's groups are a good start and the same for every seed.
        if start == 0:
            centres = _group_means(points, ward_groups(points, groups), groups)
        else:
            centres, _ = kmeans_plusplus(points, groups, random_state=int(rng.integers(2**31)))
        if many:
            # Settles without the cubic assignment; sizes are made equal at the end.
            centres = KMeans(groups, init=centres, n_init=1).fit(points).cluster_centers_
        chosen = np.full(n, -1, dtype=np.int64)
        cost = np.inf
        for _ in range(_LAST_OF_MANY if many else _ITERATIONS):
            distances = np.sum(centres**2, axis=1) - 2 * points @ centres.T + squares[:, None]
            now = deal_equal_groups(distances, size)
            cost = float(distances[np.arange(n), now].sum())
            if np.array_equal(now, chosen):
                break
            chosen = now
            centres = _group_means(points, chosen, groups)
        if cost < best_cost:
            best, best_cost = chosen, cost
    return best


def deal_equal_groups(costs: NDArray[np.float64], size: int = 0) -> NDArray[np.int64]:
    """Return the group of each point, int64 [n], of least total cost with equally large groups.

    ``costs`` float64 [n, groups]; groups have room for ``size`` points, or what n needs if more.
    Up to 500 points the optimum; beyond, near it: prices of the groups from entropic optimal
    transport (Cuturi, "Sinkhorn Distances", NeurIPS 2013), then points in the order of what they
    would lose.
    """
    n, groups = costs.shape
    room = max(size, -(-n // groups))
    if n > _MANY:
        return _deal_groups_in_turn(costs + _group_prices(costs), room)
    slots = np.repeat(np.arange(groups), room)
    which, where = linear_sum_assignment(costs[:, slots])
    dealt = np.empty(n, dtype=np.int64)
    dealt[which] = slots[where]
    return dealt


def _group_prices(costs: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return what to add to each group's costs so that groups are about equally wanted."""
    n, groups = costs.shape
    prices = np.zeros(groups)
    spread = max(float((costs - costs.min(axis=1, keepdims=True)).mean()), 1e-12)
    # From soft to hard: prices found at one softness start the next near its end.
    for softness in (0.3, 0.1, 0.03):
        unit = softness * spread
        for _ in range(_ROUNDS):
            logs = -(costs + prices) / unit
            logs -= logsumexp(logs, axis=1, keepdims=True)
            prices += unit * (logsumexp(logs, axis=0) - np.log(n / groups))
    return prices


def _deal_groups_in_turn(costs: NDArray[np.float64], room: int) -> NDArray[np.int64]:
    """Give each point the cheapest group that has room, those with most to lose first."""
    two = np.partition(costs, min(1, costs.shape[1] - 1), axis=1)[:, :2]
    left = np.full(costs.shape[1], room)
    dealt = np.empty(len(costs), dtype=np.int64)
    for point in np.argsort(two[:, 0] - two[:, -1], kind="stable"):
        group = int(np.argmin(np.where(left > 0, costs[point], np.inf)))
        dealt[point] = group
        left[group] -= 1
    return dealt


def spectral_groups(affinity: NDArray[np.float64], groups: int, seed: int) -> NDArray[np.int64]:
    """Return groups by normalised spectral clustering of a symmetric affinity [n, n] >= 0."""
    groups = min(groups, len(affinity))
    model = SpectralClustering(
        groups, affinity="precomputed", random_state=seed, assign_labels="kmeans"
    )
    # A zero between two parts leaves the graph in pieces and the eigenvectors undetermined.
    found = model.fit_predict(affinity + 1e-9 * max(float(affinity.max()), 1e-300))
    return np.asarray(found, dtype=np.int64)


def _group_means(
    points: NDArray[np.float64], chosen: NDArray[np.int64], groups: int
) -> NDArray[np.float64]:
    sums = np.zeros((groups, points.shape[1]))
    np.add.at(sums, chosen, points)
    counts: NDArray[np.float64] = np.maximum(np.bincount(chosen, minlength=groups), 1).astype(
        np.float64
    )
    means: NDArray[np.float64] = sums / counts[:, None]
    return means
