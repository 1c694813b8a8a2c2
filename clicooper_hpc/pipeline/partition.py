"""Where to cut a network so that the slowest segment is as fast as it can be.

A pipeline runs at the pace of its slowest segment. Given what each layer costs on each rank, the
cuts that minimise that pace are found exactly by dynamic programming over (rank, first layer):
with c(s, i, j) the cost of layers i .. j-1 on rank s,

    slowest(s, i) = min over j of max(c(s, i, j), slowest(s + 1, j)),

in O(segments * layers^2). Segments are contiguous and stay in rank order: the chain of trainers is
fixed by the job. Layers are numbered from 0, after the front; a cut is the number of the first
layer of the next segment.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from clicooper_hpc.errors import UsageError

__all__ = ["check_partition", "partition_layers", "partition_spans"]


def partition_layers(
    costs: NDArray[np.float64],
    memory: NDArray[np.float64] | NDArray[np.int64] | None = None,
    limits: Sequence[int | None] | None = None,
) -> tuple[int, ...]:
    """Return the cuts that minimise the cost of the slowest segment.

    Among cuts that are equally good the earliest win: the smallest first cut, then the smallest
    second, and so on. Every rank that computes this from the same numbers gets the same cuts.

    Parameters
    ----------
    costs
        ``[segments, layers]``: cost of each layer on each rank (seconds, or floating-point
        operations divided by speed); finite, >= 0.
    memory
        ``[layers]``, bytes each layer needs on a rank, or None where it does not matter.
    limits
        Bytes each of the ``segments`` ranks can give, None for no limit.

    Returns
    -------
    tuple of int
        ``segments - 1`` strictly increasing cuts in 1 .. layers - 1; every segment has a layer.

    Raises
    ------
    UsageError
        More segments than layers, or no cuts keep every rank within its limit (the rank that
        fails first is named; segment 1 is on rank 1).
    """
    segments, layers = costs.shape
    # Measured times come from other ranks: NaN would pass every comparison below.
    if not (np.isfinite(costs).all() and (costs >= 0).all()):
        raise ValueError("layer costs must be finite and not negative")
    _check_counts(layers, segments)
    span_costs = [_span_sums(row) for row in costs]
    if limits is not None and any(limit is not None for limit in limits):
        if memory is None or memory.shape != (layers,) or len(limits) != segments:
            raise ValueError("limits need the memory of every layer and one limit per segment")
        span_bytes = _span_sums(memory)
        # Before the recursion, which could only say that nothing fits, not which rank is short.
        _check_limits(span_bytes, limits)
        for row, limit in zip(span_costs, limits, strict=True):
            if limit is not None:
                # A span that does not fit costs infinitely much: the same recursion then avoids it.
                row[span_bytes > limit] = np.inf

    # slowest[s, i]: the best pace of ranks s .. when layer i is the first one left to them.
    slowest = np.full((segments + 1, layers + 1), np.inf)
    slowest[segments, layers] = 0.0
    # From the last rank back, for the best of the rest must be known before a cut is chosen.
    for rank in range(segments - 1, -1, -1):
        worst = np.maximum(span_costs[rank], slowest[rank + 1])
        slowest[rank] = worst.min(axis=1)

    best = slowest[0, 0]
    cuts = [0]
    for rank in range(segments - 1):
        first = cuts[-1]
        worst = np.maximum(span_costs[rank][first], slowest[rank + 1])
        cuts.append(int(np.argmax(worst <= best)))  # the earliest cut that keeps the best pace
    return tuple(cuts[1:])


def check_partition(cuts: Sequence[int], layers: int, segments: int) -> tuple[int, ...]:
    """Return explicit cuts as a tuple if they make ``segments`` segments of ``layers`` layers.

    Raises
    ------
    UsageError
        Wrong number of cuts, a cut outside 1 .. layers - 1, or cuts not strictly increasing.
    """
    _check_counts(layers, segments)
    if len(cuts) != segments - 1:
        raise UsageError(
            f"{len(cuts)} cuts make {len(cuts) + 1} segments, but there are {segments} trainers",
            remedy=f"Give {segments - 1} cuts, or none to have them chosen.",
        )
    listing = ", ".join(map(str, cuts))
    if any(not 0 < cut < layers for cut in cuts):
        raise UsageError(
            f"cuts [{listing}] leave the network, which has {layers} layers after the front",
            remedy=f"A cut is the number of a segment's first layer, 1 to {layers - 1}.",
        )
    if any(later <= earlier for earlier, later in pairwise(cuts)):
        raise UsageError(
            f"cuts [{listing}] do not increase", remedy="Every segment needs at least one layer."
        )
    return tuple(cuts)


def partition_spans(cuts: Sequence[int], layers: int) -> list[range]:
    """Return the layers of each segment, in order."""
    edges = [0, *cuts, layers]
    return [range(first, stop) for first, stop in pairwise(edges)]


def _span_sums(row: NDArray[np.float64] | NDArray[np.int64]) -> NDArray[np.float64]:
    """Return ``[layers + 1, layers + 1]``: the sum of row[i:j] at (i, j), inf unless i < j."""
    layers = len(row)
    sums = np.full((layers + 1, layers + 1), np.inf)
    for first in range(layers):
        sums[first, first + 1 :] = np.cumsum(row[first:], dtype=np.float64)
    return sums


def _check_counts(layers: int, segments: int) -> None:
    if segments < 1:
        raise ValueError("a network is cut into at least one segment")
    if segments > layers:
        raise UsageError(
            f"{layers} layers after the front cannot be shared by {segments} trainers",
            remedy="Start fewer ranks or cut the front earlier.",
        )


def _check_limits(span_bytes: NDArray[np.float64], limits: Sequence[int | None]) -> None:
    """Follow which layers the ranks can reach together; name the rank where the chain ends."""
    segments, layers = len(limits), len(span_bytes) - 1
    reached = {0}
    for rank, limit in enumerate(limits, start=1):
        # Ranks to come need a layer each; the last rank must take all that is left.
        stops = [layers] if rank == segments else range(1, layers - (segments - rank) + 1)
        needs = {
            (first, stop): span_bytes[first, stop]
            for first in reached
            for stop in stops
            if first < stop
        }
        room = np.inf if limit is None else limit
        reached = {stop for (_, stop), need in needs.items() if need <= room}
        if not reached:
            raise UsageError(
                f"the smallest part that can be left to it needs {min(needs.values()):.0f} bytes, "
                f"more than its limit of {limit} bytes",
                where=f"rank {rank}",
                remedy="Raise its memory limit, add trainers or use smaller micro-batches.",
            )
