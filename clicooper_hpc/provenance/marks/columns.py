"""Even and odd input columns of weight tensors: even ones carry marks, odd ones stay clean.

A column is one input channel, axis 1. Only even columns hold carriers, so odd columns can serve
alignment and the size of a channel without touching the chance that a mark is read by accident.
Carriers are numbered through the even columns of all eligible tensors laid end to end, each
flattened in C order: output channel, even column, kernel position.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clicooper_hpc.errors import EvidenceError

__all__ = [
    "Placement",
    "even_column_weights",
    "even_columns_total",
    "odd_column_sizes",
    "place_in_columns",
]


@dataclass(frozen=True, slots=True)
class Placement:
    """Where the carriers of one tensor are.

    Parameters
    ----------
    name
        The tensor.
    carrier
        int64 [k]: which carrier, in the flattened [bits, r] order.
    weight
        int64 [k]: which element of the tensor, flattened in C order.
    channel
        int64 [k]: its output channel.
    """

    name: str
    carrier: NDArray[np.int64]
    weight: NDArray[np.int64]
    channel: NDArray[np.int64]


def even_column_weights(shape: Sequence[int]) -> int:
    """Return how many weights of a tensor lie in even input columns."""
    return shape[0] * ((shape[1] + 1) // 2) * math.prod(shape[2:])


def even_columns_total(eligible: Sequence[str], shapes: Mapping[str, tuple[int, ...]]) -> int:
    """Return how many weights of all eligible tensors lie in even input columns.

    Raises
    ------
    EvidenceError
        A tensor is missing or has fewer than two input channels.
    """
    for name in eligible:
        shape = shapes.get(name, ())
        if len(shape) < 2 or shape[1] < 2 or 0 in shape:
            raise EvidenceError(
                f"the segment has no matrix or kernel named {name!r} to carry a mark",
                where="mark",
                remedy="Align the suspect with the marked segment first.",
            )
    return sum(even_column_weights(shapes[name]) for name in eligible)


def place_in_columns(
    eligible: Sequence[str], shapes: Mapping[str, tuple[int, ...]], index: NDArray[np.int64]
) -> tuple[Placement, ...]:
    """Find the tensor elements behind carrier numbers.

    Parameters
    ----------
    eligible
        Names of the tensors laid end to end.
    shapes
        Shape of each tensor by name.
    index
        int64, any shape: numbers below ``even_columns_total(eligible, shapes)``, no two equal.
    """
    flat = index.ravel()
    # One sort instead of a search in every tensor: there are up to 131,072 carriers.
    order = np.argsort(flat)
    sizes = [even_column_weights(shapes[name]) for name in eligible]
    bounds = np.concatenate(([0], np.cumsum(sizes)))
    cuts = np.searchsorted(flat[order], bounds)
    placements = []
    for number, name in enumerate(eligible):
        carrier = order[cuts[number] : cuts[number + 1]]
        if not carrier.size:
            continue
        _, columns, *kernel = shapes[name]
        inner = math.prod(kernel)
        channel, rest = np.divmod(flat[carrier] - bounds[number], (columns + 1) // 2 * inner)
        column, position = np.divmod(rest, inner)
        weight = (channel * columns + 2 * column) * inner + position
        placements.append(Placement(name, carrier.astype(np.int64), weight, channel))
    return tuple(placements)


def odd_column_sizes(tensor: NDArray[np.floating]) -> NDArray[np.float64]:
    """Root mean square of each output channel over its odd columns: float64 [channels].

    Carriers do not enter, so embedding does not move it.
    """
    clean = tensor[:, 1::2]
    rows = clean.reshape(clean.shape[0], -1).astype(np.float64)
    # Scaled by the largest value: squares of huge weights must not overflow.
    largest = np.max(np.abs(rows), axis=1, initial=0.0)
    scaled = rows / np.where(largest > 0, largest, 1.0)[:, None]
    return np.asarray(largest * np.sqrt(np.mean(scaled**2, axis=1)), dtype=np.float64)
