"""Pairing of a suspect's tensors with those of a reference, when names or layers changed.

Matrices and kernels of both, sorted by name with numbers as numbers (which is the order of layers
in a sequential network), are aligned like two sequences (Needleman and Wunsch 1970): equal shapes
are worth most, then equal names, and kernels of different size never pair.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["pair_tensors"]

Floats = NDArray[np.floating[Any]]

_SAME_SHAPE, _SAME_NAME, _SAME_KERNEL = 3, 2, 1


def pair_tensors(
    suspect: Mapping[str, Floats], reference: Mapping[str, Floats]
) -> dict[str, str | None]:
    """Return the suspect's name for each matrix or kernel of the reference; None for none."""
    ours, theirs = _ordered_for_pairing(reference), _ordered_for_pairing(suspect)
    # best[i][j]: worth of pairing the first i of ours with the first j of theirs.
    best = np.zeros((len(ours) + 1, len(theirs) + 1), dtype=np.int64)
    worth = np.array(
        [[_pairing_worth(a, reference[a], b, suspect[b]) for b in theirs] for a in ours],
        dtype=np.int64,
    ).reshape(len(ours), len(theirs))
    for i in range(len(ours)):
        for j in range(len(theirs)):
            both = best[i, j] + worth[i, j] if worth[i, j] else 0
            best[i + 1, j + 1] = max(best[i, j + 1], best[i + 1, j], both)
    pairs: dict[str, str | None] = dict.fromkeys(ours)
    i, j = len(ours), len(theirs)
    while i and j:
        # Backwards along the best sum, as for a longest common subsequence.
        if worth[i - 1, j - 1] and best[i, j] == best[i - 1, j - 1] + worth[i - 1, j - 1]:
            i, j = i - 1, j - 1
            pairs[ours[i]] = theirs[j]
        elif best[i, j] == best[i - 1, j]:
            i -= 1
        else:
            j -= 1
    return pairs


def _ordered_for_pairing(tensors: Mapping[str, Floats]) -> Sequence[str]:
    return sorted((name for name, value in tensors.items() if value.ndim >= 2), key=_natural_order)


def _natural_order(name: str) -> list[tuple[int, str]]:
    # Numbers as numbers, or layer 10 would come before layer 2.
    parts = re.findall(r"[0-9]{1,18}|[^0-9]+", name)
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]


def _pairing_worth(name: str, ours: Floats, other: str, theirs: Floats) -> int:
    # Widths may differ (channels removed or added), kernels cannot be made to fit.
    if ours.ndim != theirs.ndim or ours.shape[2:] != theirs.shape[2:]:
        return 0
    same_shape = ours.shape == theirs.shape
    return _SAME_KERNEL + _SAME_SHAPE * same_shape + _SAME_NAME * (name == other)
