"""A network of the package as the layer list of a front: what trainers trained, layer by layer.

Layer numbers stay those of the network, so that a cut means the same in both. `ImageInput` becomes
the mean and deviation of the front, and an ``Identity`` in its place: its random views belong to
training alone. Numbers are those of the network in evaluation mode, in float32, up to rounding:
``MaxPool2x2`` and ``MaxPool2d`` are different kernels, and the front's convolutions may see the
rows in blocks of another size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from clicooper_hpc.errors import DataError
from clicooper_hpc.fronts.layer_spec import LAYER_TYPES, Layer, parse_layers
from clicooper_hpc.models.image_input import ImageInput
from clicooper_hpc.models.layers import MaxPool2x2, ResidualLayers, SpatialMean

__all__ = ["ModelLayers", "describe_model_layers"]

_Settings = dict[str, Any]


@dataclass(frozen=True, slots=True)
class ModelLayers:
    """Layers of a front, and what rows are scaled by before them (one number, or one a channel)."""

    layers: tuple[Layer, ...]
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)


class _NoCounterpartError(Exception):
    """A layer that a front cannot be made of, and why."""


def describe_model_layers(model: Sequence[nn.Module], *, where: str) -> ModelLayers:
    """Return the first layers of a network as those of a front; tensors keep their names.

    Parameters
    ----------
    model
        The layers, in order.
    where
        Whose they are, for errors.

    Raises
    ------
    DataError
        A layer has no counterpart among those of a front; names it.
    """
    scaled = model[0] if model and type(model[0]) is ImageInput else None
    objects = []
    for index, module in enumerate(model):
        try:
            objects.append({"type": "Identity"} if module is scaled else _layer_object(module))
        except _NoCounterpartError as error:
            raise DataError(
                f"layer {index} ({type(module).__name__}) cannot be part of a front: {error}",
                where=where,
                remedy="Cut before it (front.cut), or take a run of the network resnet11, vgg or "
                f"mlp. A front is made of {', '.join(LAYER_TYPES)}",
            ) from None
    # Through the check of the list: what is built is what a stored front will be read back as.
    layers = parse_layers(objects, where=where)
    if scaled is None:
        return ModelLayers(layers)
    return ModelLayers(layers, scaled.mean, scaled.std)


def _layer_object(module: nn.Module) -> _Settings:
    # The very class: one derived from it may compute something else.
    describe = _DESCRIBED.get(type(module))
    if describe is None:
        raise _NoCounterpartError("there is no such layer in a front")
    return describe(module)


def _convolution(layer: nn.Conv2d) -> _Settings:
    _require(layer.padding_mode == "zeros", f"it pads with {layer.padding_mode}")
    _require(set(layer.dilation) == {1}, f"it is dilated by {layer.dilation}")
    _require(not isinstance(layer.padding, str), f"its padding is {layer.padding!r}")
    return {
        "type": "Conv2d",
        "in_channels": layer.in_channels,
        "out_channels": layer.out_channels,
        "kernel_size": _side("kernel_size", layer.kernel_size),
        "stride": _side("stride", layer.stride),
        "padding": _side("padding", layer.padding),
        "groups": layer.groups,
        "bias": layer.bias is not None,
    }


def _group_norm(layer: nn.GroupNorm) -> _Settings:
    _require(layer.affine, "it has no weights")
    return {
        "type": "GroupNorm",
        "num_groups": layer.num_groups,
        "num_channels": layer.num_channels,
        "eps": layer.eps,
    }


def _layer_norm(layer: nn.LayerNorm) -> _Settings:
    shape = layer.normalized_shape
    _require(len(shape) == 1, f"it normalises over {len(shape)} axes")
    _require(layer.weight is not None and layer.bias is not None, "it has no weights")
    return {"type": "LayerNorm", "normalized_shape": shape[0], "eps": layer.eps}


def _linear(layer: nn.Linear) -> _Settings:
    return {
        "type": "Linear",
        "in_features": layer.in_features,
        "out_features": layer.out_features,
        "bias": layer.bias is not None,
    }


def _gelu(layer: nn.GELU) -> _Settings:
    _require(layer.approximate == "none", "it is approximated")
    return {"type": "GELU"}


def _flatten(layer: nn.Flatten) -> _Settings:
    _require((layer.start_dim, layer.end_dim) == (1, -1), "it keeps axes")
    return {"type": "Flatten"}


def _residual(layer: ResidualLayers) -> _Settings:
    return {"type": "Residual", "layers": [_layer_object(inner) for inner in layer]}


def _side(name: str, given: Any) -> int:
    sides = set(given) if isinstance(given, Iterable) else {given}
    _require(len(sides) == 1, f"its {name} is {given}, not the same both ways")
    return int(sides.pop())


def _require(holds: bool, why: str) -> None:
    if not holds:
        raise _NoCounterpartError(why)


_DESCRIBED: Mapping[type[nn.Module], Callable[[Any], _Settings]] = {
    nn.Conv2d: _convolution,
    nn.GroupNorm: _group_norm,
    nn.LayerNorm: _layer_norm,
    nn.Linear: _linear,
    nn.ReLU: lambda _: {"type": "ReLU"},
    nn.GELU: _gelu,
    nn.Flatten: _flatten,
    nn.Identity: lambda _: {"type": "Identity"},
    # Drops nothing outside of training.
    nn.Dropout: lambda _: {"type": "Identity"},
    MaxPool2x2: lambda _: {"type": "MaxPool2d", "kernel_size": 2, "stride": 2},
    SpatialMean: lambda _: {"type": "SpatialMean"},
    ResidualLayers: _residual,
}
