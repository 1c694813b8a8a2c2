"""Whether new samples are of the kind that a model was trained on: shape, range and scale."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from clicooper_hpc.errors import DataError
from clicooper_hpc.owner.input_facts import InputFacts, NumberMoments

__all__ = ["check_input_range", "check_input_shape", "describe_shape", "other_scale"]

_REMEDY = "Prepare the samples as those of the run were"
#: By which the deviation of numbers may be larger or smaller.
_FACTOR = 2.0


def describe_shape(shape: tuple[int, ...]) -> str:
    """Return the shape of one row, (D,) or (C, H, W), in words."""
    if len(shape) != 3:
        return f"vectors of {shape[0]} numbers" if len(shape) == 1 else f"rows of shape {shape}"
    channels, height, width = shape
    return f"images of {width}x{height} pixels with {channels} channel{'s' * (channels != 1)}"


def check_input_shape(found: tuple[int, ...], expected: tuple[int, ...], where: str) -> None:
    """Refuse rows of another shape than the model takes; both are (D,) or (C, H, W)."""
    if found != expected:
        raise DataError(
            f"holds {describe_shape(found)}, the model takes {describe_shape(expected)}",
            where=where,
            remedy=_REMEDY,
        )


def check_input_range(
    rows: NDArray[np.float32], facts: InputFacts, where: str, *, first_row: int
) -> None:
    """Refuse rows whose numbers are of another scale than those the model was trained on.

    Where these were bytes, every number must lie in [0, 1]. Else numbers may lie as far outside the
    range of the training samples as that is wide: new samples need not be within it.

    Parameters
    ----------
    rows
        float32 [n, ...], n > 0, as the model takes them.
    first_row
        Number of the first of them at ``where``.
    """
    width = 0.0 if facts.stored_as == "uint8" else facts.highest - facts.lowest
    lowest, highest = facts.lowest - width, facts.highest + width
    flat = rows.reshape(len(rows), -1)
    odd = np.flatnonzero((flat.min(axis=1) < lowest) | (flat.max(axis=1) > highest))
    if not len(odd):
        return
    row = int(odd[0])
    trained = f"{facts.lowest:.6g} to {facts.highest:.6g}"
    if facts.stored_as == "uint8":
        trained += " (bytes divided by 255)"
    raise DataError(
        f"holds numbers from {flat[row].min():.6g} to {flat[row].max():.6g}; those the model was "
        f"trained on go from {trained}",
        where=f"{where}, row {first_row + row}",
        remedy=_REMEDY,
    )


def other_scale(moments: NumberMoments, facts: InputFacts) -> str | None:
    """Return how all new numbers differ from those the model was trained on, or None.

    They do if their deviation is less than half or more than twice the training samples', or their
    mean lies more than one deviation off: so samples are told that were scaled in another way but
    lie within the range, such as bytes divided by 255 where standardised numbers were trained on.
    """
    if facts.mean is None or not facts.deviation or not moments.count:
        return None
    share = moments.deviation / facts.deviation
    apart = abs(moments.mean - facts.mean) / facts.deviation
    if 1 / _FACTOR <= share <= _FACTOR and apart <= 1:
        return None
    return (
        f"their numbers have mean {moments.mean:.3g} and deviation {moments.deviation:.3g}, those "
        f"the model was trained on {facts.mean:.3g} and {facts.deviation:.3g}. If they were "
        "prepared in another way, the predictions mean nothing"
    )
