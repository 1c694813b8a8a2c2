"""Neighbouring rows on which a release leaks most, for each guarantee."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from clicooper_hpc.privacy.sensitivity import Guarantee

__all__ = ["NeighbouringRows", "add_batch_mates", "worst_case_rows"]

#: Two inputs, float64 [b, d].
NeighbouringRows = tuple[NDArray[np.float64], NDArray[np.float64]]

# How far outside the clip set a row is put: a clip that is missing or too wide shows at once.
_OUTSIDE: Final = 8.0


def worst_case_rows(guarantee: Guarantee) -> dict[str, NeighbouringRows]:
    """Return neighbours float64 [1, d] by name.

    ``boundary``
        As far apart as clipped neighbours can be, so the bound shall come near the claim.
    ``diagonal``
        Sample unit: the same, spread over all coordinates; a clip in another norm shows.
    ``outside``
        The same far outside the clip set: the clip must make ``boundary`` of it. Element unit: all
        other coordinates large too, so that they must not count.
    ``signs``
        Non-negative rows: opposite signs, of which the clip must remove one.

    The metric unit has ``boundary`` only: its neighbours are defined before the clip.
    """
    clip, d = guarantee.clip, guarantee.dimension
    axis = np.zeros((1, d))
    axis[0, 0] = 1.0
    if guarantee.unit == "element":
        return _element_worst_case(guarantee, axis)
    if guarantee.metric_distance is not None:
        # Around zero, where the clip does not bring the two closer together.
        half = guarantee.metric_distance / 2
        if not guarantee.non_negative:
            return {"boundary": (half * axis, -half * axis)}
        if d == 1:
            return {"boundary": (guarantee.metric_distance * axis, 0 * axis)}
        # Two orthogonal rows without negative numbers, D0 apart.
        side = guarantee.metric_distance / math.sqrt(2)
        return {"boundary": (side * axis, side * np.roll(axis, 1))}
    if guarantee.relation == "zero-out":
        first, second = axis, 0 * axis
        # A clip of each coordinate by itself would let this row, and only this row, grow by
        # sqrt(d).
        spread = (np.full((1, d), 1 / math.sqrt(d)), 0 * axis)
    elif guarantee.non_negative and d > 1:
        # Without negative numbers the farthest rows of the ball are orthogonal: sqrt(2) C, not 2 C.
        first, second = axis, np.roll(axis, 1)
        spread = _orthogonal_halves(d)
    else:
        first, second = axis, -axis
        spread = (np.full((1, d), 1 / math.sqrt(d)), np.full((1, d), -1 / math.sqrt(d)))
    pairs = {
        "boundary": (clip * first, clip * second),
        "diagonal": (clip * spread[0], clip * spread[1]),
        "outside": (_OUTSIDE * clip * first, _OUTSIDE * clip * second),
    }
    if guarantee.non_negative and guarantee.relation == "replace-one":
        pairs["signs"] = (clip * axis, -clip * axis)
    return pairs


def add_batch_mates(pair: NeighbouringRows, mates: NDArray[np.float64]) -> NeighbouringRows:
    """Put both rows of a pair before the same batch-mates, float64 [b - 1, d]."""
    return np.concatenate([pair[0], mates]), np.concatenate([pair[1], mates])


def _element_worst_case(
    guarantee: Guarantee, axis: NDArray[np.float64]
) -> dict[str, NeighbouringRows]:
    clip = guarantee.clip
    # The farthest a coordinate can be from clip: zero, or minus clip where that is allowed.
    low = 0.0 if guarantee.non_negative or guarantee.relation == "zero-out" else -1.0
    # Large and equal in both neighbours: the claim is about one coordinate, whatever the others
    # are.
    others = _OUTSIDE * clip * (1 - axis)
    pairs = {
        "boundary": (clip * axis, low * clip * axis),
        "outside": (_OUTSIDE * clip * axis + others, low * _OUTSIDE * clip * axis + others),
    }
    if guarantee.non_negative and guarantee.relation == "replace-one":
        pairs["signs"] = (clip * axis, -clip * axis)
    return pairs


def _orthogonal_halves(d: int) -> NeighbouringRows:
    """Return two orthogonal rows of norm 1 without negative coordinates, as spread as can be."""
    first, second = np.zeros((1, d)), np.zeros((1, d))
    # Even against odd coordinates: orthogonal without a negative number.
    first[0, ::2] = 1 / math.sqrt(len(range(0, d, 2)))
    second[0, 1::2] = 1 / math.sqrt(len(range(1, d, 2)))
    return first, second
