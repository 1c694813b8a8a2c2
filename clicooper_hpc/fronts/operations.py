"""The parts a front is made of, but for its network: clamp, resizing, linear map, scores, one norm.

Each is a frozen value that maps a block of rows to a block of rows, one row at a time in the
mathematical sense. `restore_operation` rebuilds any of them from its stored settings and tensors:
a front can be used again without the file, the seed or the training it came from.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from clicooper_hpc.config.owner_sections import MOST_PIXELS
from clicooper_hpc.config.read_out import ReadOut, parse_read_out
from clicooper_hpc.errors import DataError
from clicooper_hpc.fronts.affine import Affine
from clicooper_hpc.fronts.layer_spec import expected_layer_tensors, parse_layers
from clicooper_hpc.fronts.network import Network

__all__ = [
    "TEMPERATURE",
    "Clamp",
    "Linear",
    "Operation",
    "Resize",
    "Scale",
    "Scores",
    "restore_operation",
    "trace_operation_shapes",
]

Shape = tuple[int, ...]

#: `Scores` are divided by this before they become probabilities (temperature of the softmax).
TEMPERATURE = 2.0


class Operation(Protocol):
    """A map of float32 rows ``[n, *in]`` to float32 rows ``[n, *out]``."""

    def output_shape(self, input_shape: Shape) -> Shape:
        """Shape of one row after this operation; raises `DataError` if it cannot take the input."""

    def non_negative(self, before: bool) -> bool:
        """Whether every output is provably >= 0, given whether every input is."""

    def operation_settings(self) -> dict[str, object]:
        """Everything but the tensors, as JSON values, with the operation's name under ``stage``."""

    def operation_tensors(self) -> dict[str, Tensor]:
        """Return the operation's constants by name."""

    def apply(self, x: Tensor) -> Tensor:
        """Map a block of rows."""


@dataclass(frozen=True, slots=True)
class Clamp:
    """Limit every value to [0, 1]; with ``flatten`` a row becomes a vector."""

    flatten: bool

    def output_shape(self, input_shape: Shape) -> Shape:
        """See `Operation`."""
        return (math.prod(input_shape),) if self.flatten else input_shape

    def non_negative(self, before: bool) -> bool:
        """See `Operation`: the lower limit is 0."""
        return True

    def operation_settings(self) -> dict[str, object]:
        """See `Operation`."""
        return {"stage": "clamp", "flatten": self.flatten}

    def operation_tensors(self) -> dict[str, Tensor]:
        """See `Operation`."""
        return {}

    def apply(self, x: Tensor) -> Tensor:
        """See `Operation`."""
        y = x.clamp(0.0, 1.0)
        return y.flatten(1) if self.flatten else y


@dataclass(frozen=True, slots=True)
class Resize:
    """Scale an image ``[C, H, W]`` to ``side`` x ``side`` places, bilinear.

    Corners of the outermost pixels lie on each other, not their centres (``align_corners=False`` of
    torch, half-pixel centres), and where the image gets smaller each place is a mean over all
    pixels it covers (antialias).
    """

    side: int

    def output_shape(self, input_shape: Shape) -> Shape:
        """See `Operation`."""
        if len(input_shape) != 3:
            raise DataError(f"rows of shape {input_shape} are no images to resize", where="front")
        return (input_shape[0], self.side, self.side)

    def non_negative(self, before: bool) -> bool:
        """See `Operation`: weighted means."""
        return before

    def operation_settings(self) -> dict[str, object]:
        """See `Operation`."""
        return {"stage": "resize", "side": self.side}

    def operation_tensors(self) -> dict[str, Tensor]:
        """See `Operation`."""
        return {}

    def apply(self, x: Tensor) -> Tensor:
        """See `Operation`."""
        return interpolate(
            x, size=(self.side, self.side), mode="bilinear", align_corners=False, antialias=True
        )


@dataclass(frozen=True, slots=True)
class Linear:
    """``(flatten(x) - offset) @ matrix`` in float64, rounded to float32.

    ``offset`` is float64 ``[p]``, ``matrix`` float64 ``[p, d]``.
    """

    offset: Tensor = field(repr=False)
    matrix: Tensor = field(repr=False)

    def output_shape(self, input_shape: Shape) -> Shape:
        """See `Operation`."""
        size = math.prod(input_shape)
        if size != self.matrix.shape[0]:
            raise DataError(
                f"rows have {size} numbers, the projection takes {self.matrix.shape[0]}",
                where="front",
            )
        return (int(self.matrix.shape[1]),)

    def non_negative(self, before: bool) -> bool:
        """See `Operation`: signs mix."""
        return False

    def operation_settings(self) -> dict[str, object]:
        """See `Operation`."""
        return {"stage": "linear", "shape": list(self.matrix.shape)}

    def operation_tensors(self) -> dict[str, Tensor]:
        """See `Operation`."""
        return {"offset": self.offset, "matrix": self.matrix}

    def apply(self, x: Tensor) -> Tensor:
        """See `Operation`."""
        return ((x.flatten(1).to(torch.float64) - self.offset) @ self.matrix).to(torch.float32)


@dataclass(frozen=True, slots=True)
class Scores:
    """Probabilities of classes: a linear map with a softmax behind it.

    ``softmax(((flatten(x) - offset) @ matrix + bias) / TEMPERATURE)`` in float64, rounded to
    float32. ``offset`` is float64 ``[p]``, ``matrix`` ``[p, K]``, ``bias`` ``[K]``. The temperature
    softens scores that are too sure of themselves: accuracy is the same, and a row shows less of
    its class (docs/accuracy.md).
    """

    offset: Tensor = field(repr=False)
    matrix: Tensor = field(repr=False)
    bias: Tensor = field(repr=False)

    def output_shape(self, input_shape: Shape) -> Shape:
        """See `Operation`."""
        return Linear(self.offset, self.matrix).output_shape(input_shape)

    def non_negative(self, before: bool) -> bool:
        """See `Operation`: probabilities."""
        return True

    def operation_settings(self) -> dict[str, object]:
        """See `Operation`."""
        return {"stage": "scores", "shape": list(self.matrix.shape)}

    def operation_tensors(self) -> dict[str, Tensor]:
        """See `Operation`."""
        return {"offset": self.offset, "matrix": self.matrix, "bias": self.bias}

    def apply(self, x: Tensor) -> Tensor:
        """See `Operation`."""
        scores = (x.flatten(1).to(torch.float64) - self.offset) @ self.matrix + self.bias
        # The clamp changes no value; it makes the claim hold whatever a kernel does.
        return torch.softmax(scores / TEMPERATURE, dim=1).to(torch.float32).clamp(min=0.0)


@dataclass(frozen=True, slots=True)
class Scale:
    """Scale every row to L2 norm ``norm`` (of the flattened row); zero rows stay zero."""

    norm: float

    def output_shape(self, input_shape: Shape) -> Shape:
        """See `Operation`."""
        return input_shape

    def non_negative(self, before: bool) -> bool:
        """See `Operation`: the factor is positive."""
        return before

    def operation_settings(self) -> dict[str, object]:
        """See `Operation`."""
        return {"stage": "scale", "norm": self.norm}

    def operation_tensors(self) -> dict[str, Tensor]:
        """See `Operation`."""
        return {}

    def apply(self, x: Tensor) -> Tensor:
        """See `Operation`."""
        wide = x.flatten(1).to(torch.float64)
        length = wide.square().sum(1, keepdim=True).sqrt()
        # Zero rows have no direction; scaled they would be NaN.
        unit = torch.where(length > 0, wide * (self.norm / length.clamp(min=1e-300)), 0.0)
        return unit.to(torch.float32).reshape(x.shape)


def _numbers(given: object) -> tuple[float, ...]:
    if not isinstance(given, Sequence) or isinstance(given, str):
        raise ValueError("a list of numbers is missing")
    return tuple(float(number) for number in given)


def _read_outs(given: object) -> tuple[ReadOut, ...]:
    if not isinstance(given, list) or not all(isinstance(one, str) for one in given):
        raise ValueError("read-outs must be a list of texts")
    return tuple(parse_read_out(one) for one in given)


def _side(given: object) -> int:
    if type(given) is not int or not 1 <= given <= MOST_PIXELS:
        raise ValueError(f"'side' must be a whole number from 1 to {MOST_PIXELS}")
    return given


def _yes(given: object) -> bool:
    if not isinstance(given, bool):
        raise ValueError("'mirror' must be true or false")
    return given


def restore_operation(settings: Mapping[str, object], tensors: Mapping[str, Tensor]) -> Operation:
    """Rebuild an operation from its stored settings and tensors.

    Raises
    ------
    DataError
        If the settings or tensors are not those of an operation.
    """
    name = settings.get("stage")
    where = f"stored front, operation {name!r}"
    try:
        if name == "clamp":
            return Clamp(flatten=bool(settings["flatten"]))
        if name == "resize":
            return Resize(_side(settings["side"]))
        if name == "scale":
            return Scale(_numbers([settings["norm"]])[0])
        if name == "affine":
            return Affine(tensors["offset"], tensors["factor"])
        if name == "linear":
            return Linear(tensors["offset"], tensors["matrix"])
        if name == "scores":
            return Scores(tensors["offset"], tensors["matrix"], tensors["bias"])
        if name == "network":
            layers = parse_layers(settings["layers"], where=where)
            shapes = {key: tuple(value.shape) for key, value in tensors.items()}
            # Before anything is built of them: the file may be damaged or made up.
            if shapes != expected_layer_tensors(layers, where=where):
                raise ValueError("tensors do not fit the layers")
            return Network(
                layers,
                tuple(int(size) for size in _numbers(settings["shape"])),
                _numbers(settings["mean"]),
                _numbers(settings["std"]),
                dict(tensors),
                read_outs=_read_outs(settings.get("read_outs", [])),
                mirror=_yes(settings.get("mirror", False)),
            )
    except (LookupError, ValueError, TypeError, ArithmeticError, RuntimeError) as error:
        raise DataError(f"damaged: {error}", where=where) from error
    # Only these seven are known: a stored front names no code that could be run.
    raise DataError("unknown operation", where=where)


def trace_operation_shapes(
    operations: Sequence[Operation], input_shape: tuple[int, ...]
) -> tuple[int, ...]:
    """Return the shape of one row after all operations."""
    shape = input_shape
    for operation in operations:
        shape = operation.output_shape(shape)
    return shape
