"""What every layer type makes of the shape of a row, and which tensors it has: arithmetic alone.

Nothing is built for it, so a hostile description costs neither memory nor the second in which torch
imports what it needs to trace shapes without memory.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TypeAlias

__all__ = ["Settings", "Shape", "output_shape_of_layer", "tensor_shapes_of_layer"]

Shape: TypeAlias = tuple[int, ...]
Settings: TypeAlias = Mapping[str, int | float | bool]


def output_shape_of_layer(kind: str, settings: Settings, shape: Shape) -> Shape:
    """Return the shape of a row behind a layer of type ``kind`` (not `Residual`).

    Raises
    ------
    ValueError
        The layer cannot take a row of ``shape``, or its settings do not fit together.
    """
    tensor_shapes_of_layer(kind, settings)
    rule = _RULES.get(kind)
    return shape if rule is None else rule(settings, shape)


def tensor_shapes_of_layer(kind: str, settings: Settings) -> dict[str, Shape]:
    """Return names and shapes of the stored tensors of a layer of type ``kind``.

    Raises
    ------
    ValueError
        Its settings do not fit together.
    """
    s = settings
    if kind == "Conv2d":
        inputs, outputs, groups = int(s["in_channels"]), int(s["out_channels"]), int(s["groups"])
        if inputs % groups or outputs % groups:
            raise ValueError(f"{groups} groups do not divide {inputs} and {outputs} channels")
        size = int(s["kernel_size"])
        weight: Shape = (outputs, inputs // groups, size, size)
        return {"weight": weight, "bias": (outputs,)} if s["bias"] else {"weight": weight}
    if kind == "Linear":
        inputs, outputs = int(s["in_features"]), int(s["out_features"])
        named = {"weight": (outputs, inputs), "bias": (outputs,)}
        return named if s["bias"] else {"weight": named["weight"]}
    if kind == "BatchNorm2d":
        names = ("weight", "bias", "running_mean", "running_var")
        return dict.fromkeys(names, (int(s["num_features"]),))
    if kind == "LayerNorm":
        return dict.fromkeys(("weight", "bias"), (int(s["normalized_shape"]),))
    if kind == "GroupNorm":
        channels, groups = int(s["num_channels"]), int(s["num_groups"])
        if channels % groups:
            raise ValueError(f"{groups} groups do not divide {channels} channels")
        return dict.fromkeys(("weight", "bias"), (channels,))
    return {}


def _map_shape(shape: Shape) -> tuple[int, int, int]:
    if len(shape) != 3:
        raise ValueError("it takes maps [channels, height, width]")
    return shape[0], shape[1], shape[2]


def _channels(shape: Shape, wanted: int) -> None:
    if shape[0] != wanted:
        raise ValueError(f"it takes {wanted} channels")


def _sides(settings: Settings, shape: Shape) -> Shape:
    """Return the sides of a map behind a window that is moved over it."""
    window, stride, padding = (int(settings[k]) for k in ("kernel_size", "stride", "padding"))
    sides = tuple((side + 2 * padding - window) // stride + 1 for side in shape[1:])
    if min(side + 2 * padding for side in shape[1:]) < window:
        raise ValueError(f"its window of {window} is larger than the map")
    return sides


def _convolution(settings: Settings, shape: Shape) -> Shape:
    _map_shape(shape)
    _channels(shape, int(settings["in_channels"]))
    return (int(settings["out_channels"]), *_sides(settings, shape))


def _pool(settings: Settings, shape: Shape) -> Shape:
    channels, _, _ = _map_shape(shape)
    if 2 * int(settings["padding"]) > int(settings["kernel_size"]):
        raise ValueError("its padding is more than half of its window")
    return (channels, *_sides(settings, shape))


def _adaptive_pool(settings: Settings, shape: Shape) -> Shape:
    size = int(settings["output_size"])
    return (_map_shape(shape)[0], size, size)


def _zero_pad(settings: Settings, shape: Shape) -> Shape:
    channels, height, width = _map_shape(shape)
    more = int(settings["before"]) + int(settings["after"])
    return (channels, height + more, width + more)


def _batch_norm(settings: Settings, shape: Shape) -> Shape:
    _map_shape(shape)
    _channels(shape, int(settings["num_features"]))
    return shape


def _group_norm(settings: Settings, shape: Shape) -> Shape:
    _channels(shape, int(settings["num_channels"]))
    return shape


def _layer_norm(settings: Settings, shape: Shape) -> Shape:
    if shape[-1] != settings["normalized_shape"]:
        raise ValueError(f"it takes {settings['normalized_shape']} numbers")
    return shape


def _spatial_mean(_: Settings, shape: Shape) -> Shape:
    if len(shape) < 2:
        raise ValueError("it takes maps [channels, ...]")
    return shape[:1]


def _linear(settings: Settings, shape: Shape) -> Shape:
    if shape[-1] != settings["in_features"]:
        raise ValueError(f"it takes {settings['in_features']} numbers")
    return (*shape[:-1], int(settings["out_features"]))


def _flatten(_: Settings, shape: Shape) -> Shape:
    return (math.prod(shape),)


_RULES: Mapping[str, Callable[[Settings, Shape], Shape]] = {
    "Conv2d": _convolution,
    "BatchNorm2d": _batch_norm,
    "GroupNorm": _group_norm,
    "LayerNorm": _layer_norm,
    "ZeroPad2d": _zero_pad,
    "MaxPool2d": _pool,
    "AvgPool2d": _pool,
    "AdaptiveAvgPool2d": _adaptive_pool,
    "SpatialMean": _spatial_mean,
    "Flatten": _flatten,
    "Linear": _linear,
}
