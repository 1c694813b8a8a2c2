"""Fronts that need no data at all: the row itself, low DCT frequencies, random features.

What they are for: a run on data for which no public weights exist. Measured numbers are in
docs/fronts.md.
"""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from clicooper_hpc.errors import UsageError
from clicooper_hpc.fronts.layer_spec import Layer, trace_layer_shapes
from clicooper_hpc.fronts.network import Network
from clicooper_hpc.fronts.operations import Clamp, Linear, Operation

__all__ = [
    "untrained_dct",
    "untrained_identity",
    "untrained_image_shape",
    "untrained_random_features",
    "untrained_uses_convolutions",
]

_CONV_SIDE = 16  # images with both sides at least this long get convolutions
_FILTERS = 64
_FILTER_SIDE = 5
_POOL = 4


def untrained_identity(flatten: bool) -> tuple[Operation, ...]:
    """Return the row itself, limited to [0, 1] (so that >= 0 is certain)."""
    return (Clamp(flatten),)


def untrained_image_shape(input_shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Read a row shape as (channels, height, width); a vector of n*n numbers is a square image.

    Raises
    ------
    UsageError
        If the shape is neither.
    """
    if len(input_shape) == 3:
        return (input_shape[0], input_shape[1], input_shape[2])
    side = math.isqrt(math.prod(input_shape))
    if len(input_shape) == 1 and side * side == input_shape[0]:
        return (1, side, side)
    raise UsageError(f"rows of shape {input_shape} are not images", where="front.kind")


def untrained_uses_convolutions(input_shape: tuple[int, ...]) -> bool:
    """Whether random features of such rows are pooled convolutions."""
    return len(input_shape) == 3 and min(input_shape[1:]) >= _CONV_SIDE


def _check_dim(dim: int | None, most: int) -> int:
    if dim is None:
        raise UsageError("this kind of front needs a number of features", where="front.dim")
    if not 1 <= dim <= most:
        raise UsageError(f"{dim} is not between 1 and {most}", where="front.dim")
    return dim


def _dct_matrix(size: int) -> NDArray[np.float64]:
    """Orthonormal DCT-II ``[frequency, place]`` (Ahmed, Natarajan, Rao 1974)."""
    place = np.arange(size, dtype=np.float64)
    basis = np.cos(np.pi * (place[None, :] + 0.5) * place[:, None] / size) * math.sqrt(2 / size)
    basis[0] /= math.sqrt(2)
    return basis


def untrained_dct(input_shape: tuple[int, ...], dim: int | None) -> tuple[Operation, ...]:
    """Return the ``dim`` lowest frequencies of the two-dimensional DCT, in zig-zag order.

    The constant coefficient of a grey image is left out: scaled to one norm it would drown the
    others. Colour images keep theirs (the colour cast tells classes apart), taken around mid-grey.
    """
    channels, height, width = untrained_image_shape(input_shape)
    order = sorted(
        product(range(height), range(width), range(channels)),
        key=lambda place: (place[0] + place[1], place[0], place[2]),
    )
    # The constant coefficient of a grey image, scaled to one norm, would drown the others.
    if channels == 1:
        order = order[1:]
    chosen = order[: _check_dim(dim, len(order))]
    rows, columns = _dct_matrix(height), _dct_matrix(width)
    matrix = np.zeros((len(chosen), channels, height, width))
    for index, (row, column, channel) in enumerate(chosen):
        matrix[index, channel] = np.outer(rows[row], columns[column])
    flat = torch.from_numpy(np.ascontiguousarray(matrix.reshape(len(chosen), -1).T))
    return (Linear(torch.full((flat.shape[0],), 0.5, dtype=torch.float64), flat),)


def _orthonormal(rng: np.random.Generator, size: int, dim: int) -> NDArray[np.float64]:
    """Random orthonormal columns ``[size, dim]``, each orthogonal to the constant vector."""
    # Orthogonal to the constant vector: features are blind to brightness.
    columns = np.concatenate([np.ones((size, 1)), rng.normal(size=(size, dim))], axis=1)
    basis: NDArray[np.float64] = np.linalg.qr(columns)[0][:, 1:]
    return basis


def _random_filters(rng: np.random.Generator, channels: int) -> Tensor:
    """Orthonormal filters without a constant part, each followed by its negative."""
    size = channels * _FILTER_SIDE * _FILTER_SIDE
    count = min(_FILTERS, size - 1)
    filters = _orthonormal(rng, size, count).T.reshape(count, channels, _FILTER_SIDE, _FILTER_SIDE)
    # ReLU halves what a filter sees; its negative keeps the other half.
    both = np.concatenate([filters, -filters]).astype(np.float32)
    return torch.from_numpy(both)


def untrained_random_features(
    input_shape: tuple[int, ...], dim: int | None, seed: int
) -> tuple[Operation, ...]:
    """Return fixed random features.

    Small images and vectors: an orthonormal random projection to ``dim`` numbers that ignores the
    row's mean. Images of at least 16 x 16: random orthonormal 5x5 filters, ReLU, average pooling
    to 4 x 4, then such a projection; without ``dim`` the pooled maps themselves, to be projected
    with public data. The seed need not be secret.
    """
    # Public: nothing private enters, so whoever knows the seed learns nothing.
    rng = np.random.default_rng(seed)
    operations: list[Operation] = []
    size = math.prod(input_shape)
    if untrained_uses_convolutions(input_shape):
        weight = _random_filters(rng, input_shape[0])
        layers = (
            Layer(
                "Conv2d",
                (
                    ("in_channels", input_shape[0]),
                    ("out_channels", len(weight)),
                    ("kernel_size", _FILTER_SIDE),
                    ("stride", 2),
                    ("padding", _FILTER_SIDE // 2),
                    ("groups", 1),
                    ("bias", False),
                ),
            ),
            Layer("ReLU"),
            Layer("AdaptiveAvgPool2d", (("output_size", _POOL),)),
            Layer("Flatten"),
        )
        operations.append(Network(layers, input_shape, (0.5,), (1.0,), {"0.weight": weight}))
        size = trace_layer_shapes(layers, input_shape, where="front.kind")[-1][0]
        if dim is None:
            return tuple(operations)
    matrix = _orthonormal(rng, size, _check_dim(dim, size - 1))
    operations.append(
        Linear(torch.zeros(size, dtype=torch.float64), torch.from_numpy(matrix.copy(order="C")))
    )
    return tuple(operations)
