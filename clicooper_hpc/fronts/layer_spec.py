"""The layer list: a small, safe description of an ``nn.Sequential`` in JSON.

A list of objects such as ``{"type": "Conv2d", "in_channels": 3, "out_channels": 48,
"kernel_size": 3, "bias": false}``. Only the layer types of `LAYER_TYPES` and only their named
settings are taken, each checked for kind and range before anything is built, so a description
can neither run code nor reserve memory: shapes are traced without storage. All layers treat the
rows of a batch one by one; BatchNorm does so because a front always runs on stored statistics.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from clicooper_hpc.errors import DataError

__all__ = [
    "LAYER_TYPES",
    "Layer",
    "build_layers",
    "expected_layer_tensors",
    "layers_stay_non_negative",
    "layers_to_objects",
    "parse_layers",
    "trace_layer_shapes",
]

_MAX_LAYERS = 512
_MAX_INT = 1 << 20


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer: its type and every setting, defaults filled in."""

    type: str
    settings: tuple[tuple[str, int | float | bool], ...] = ()


@dataclass(frozen=True, slots=True)
class _Setting:
    kind: type[int] | type[float] | type[bool]
    default: int | float | bool | None = None
    low: float = 1


_COUNT = _Setting(int)
_PADDING = _Setting(int, 0, low=0)
_EPS = _Setting(float, 1e-5, low=1e-12)

_SETTINGS: Mapping[str, Mapping[str, _Setting]] = {
    "Conv2d": {
        "in_channels": _COUNT,
        "out_channels": _COUNT,
        "kernel_size": _COUNT,
        "stride": _Setting(int, 1),
        "padding": _PADDING,
        "groups": _Setting(int, 1),
        "bias": _Setting(bool, True),
    },
    "BatchNorm2d": {"num_features": _COUNT, "eps": _EPS},
    "GroupNorm": {"num_groups": _COUNT, "num_channels": _COUNT, "eps": _EPS},
    "ReLU": {},
    "GELU": {},
    "MaxPool2d": {"kernel_size": _COUNT, "stride": _COUNT, "padding": _PADDING},
    "AvgPool2d": {"kernel_size": _COUNT, "stride": _COUNT, "padding": _PADDING},
    "AdaptiveAvgPool2d": {"output_size": _COUNT},
    "Flatten": {},
    "Linear": {"in_features": _COUNT, "out_features": _COUNT, "bias": _Setting(bool, True)},
}

LAYER_TYPES: tuple[str, ...] = tuple(_SETTINGS)
_MODULES: Mapping[str, Callable[..., nn.Module]] = {name: getattr(nn, name) for name in LAYER_TYPES}


def _value(given: object, rule: _Setting, name: str, where: str) -> int | float | bool:
    # bool is an int to Python, so it is asked for first.
    if rule.kind is bool:
        if isinstance(given, bool):
            return given
        raise DataError(f"{name} must be true or false", where=where)
    if rule.kind is float and isinstance(given, int | float) and not isinstance(given, bool):
        if rule.low <= given <= 1:
            return float(given)
    elif isinstance(given, int) and not isinstance(given, bool) and rule.low <= given <= _MAX_INT:
        return given
    limit = 1 if rule.kind is float else _MAX_INT
    raise DataError(f"{name} must be a number from {rule.low} to {limit}", where=where)


def _layer(given: object, where: str) -> Layer:
    if not isinstance(given, Mapping):
        raise DataError("a layer must be an object with a 'type'", where=where)
    kind = given.get("type")
    if not isinstance(kind, str) or kind not in _SETTINGS:
        raise DataError(
            f"unknown layer type {kind!r}", where=where, remedy=f"Use one of {list(LAYER_TYPES)}"
        )
    rules = _SETTINGS[kind]
    # Refused, not ignored: a misspelt setting would build another network in silence.
    unknown = sorted(str(name) for name in given if name != "type" and name not in rules)
    if unknown:
        raise DataError(
            f"{kind} has no setting {unknown[0]!r}", where=where, remedy=f"It has {list(rules)}"
        )
    settings: list[tuple[str, int | float | bool]] = []
    for name, rule in rules.items():
        if name in given:
            settings.append((name, _value(given[name], rule, name, f"{where} ({kind})")))
        elif rule.default is None:
            raise DataError(f"{kind} needs {name!r}", where=where)
        else:
            settings.append((name, rule.default))
    return Layer(kind, tuple(settings))


def parse_layers(given: object, *, where: str) -> tuple[Layer, ...]:
    """Check a decoded JSON or TOML layer list.

    Raises
    ------
    DataError
        For anything but a non-empty list of whitelisted layers with valid settings.
    """
    if not isinstance(given, Sequence) or isinstance(given, str | bytes) or not given:
        raise DataError("'layers' must be a list of layers", where=where)
    if len(given) > _MAX_LAYERS:
        raise DataError(f"more than {_MAX_LAYERS} layers", where=where)
    return tuple(_layer(item, f"{where}: layer {i}") for i, item in enumerate(given))


def layers_to_objects(layers: Sequence[Layer]) -> list[dict[str, object]]:
    """Return the JSON form that `parse_layers` reads back unchanged."""
    return [{"type": layer.type, **dict(layer.settings)} for layer in layers]


def build_layers(layers: Sequence[Layer]) -> nn.Sequential:
    """Build the network in evaluation mode, without gradients; starting weights are torch's.

    Raises
    ------
    ValueError
        Where torch refuses a combination of settings (groups that do not divide channels).
    """
    # Evaluation mode, or BatchNorm would mix the rows of a batch.
    modules = [_MODULES[layer.type](**dict(layer.settings)) for layer in layers]
    return nn.Sequential(*modules).eval().requires_grad_(False)


def _meta_network(layers: Sequence[Layer], where: str) -> nn.Sequential:
    try:
        with torch.random.fork_rng(devices=[]), torch.device("meta"):
            # On the meta device: shapes are traced without memory, so a hostile file cannot ask for
            # terabytes.
            return build_layers(layers)
    except (ValueError, RuntimeError) as error:
        raise DataError(f"layers do not fit: {error}", where=where) from error


def expected_layer_tensors(layers: Sequence[Layer], *, where: str) -> dict[str, tuple[int, ...]]:
    """Name and shape of every stored tensor, without reserving memory for one."""
    state = _meta_network(layers, where).state_dict()
    return {
        name: tuple(tensor.shape)
        for name, tensor in state.items()
        if not name.endswith("num_batches_tracked")  # counts training steps; unused here
    }


def trace_layer_shapes(
    layers: Sequence[Layer], input_shape: Sequence[int], *, where: str
) -> tuple[tuple[int, ...], ...]:
    """Shape of one row after each layer.

    Raises
    ------
    DataError
        Naming the first layer that cannot take what the one before gives.
    """
    network = _meta_network(layers, where)
    x = torch.empty((2, *input_shape), device="meta")
    shapes: list[tuple[int, ...]] = []
    for index, module in enumerate(network):
        before = tuple(x.shape[1:])
        try:
            x = module(x)
        except (RuntimeError, ValueError) as error:
            raise DataError(
                f"layer {index} ({layers[index].type}) cannot take rows of shape {before}",
                where=where,
            ) from error
        shapes.append(tuple(x.shape[1:]))
    return tuple(shapes)


def layers_stay_non_negative(layers: Sequence[Layer]) -> bool:
    """Whether the outputs are provably >= 0: a ReLU, then only pooling or flattening."""
    sure = False
    for layer in layers:
        # Pooling takes means and maxima of what is there, so no sign changes.
        keeps = layer.type in {"MaxPool2d", "AvgPool2d", "AdaptiveAvgPool2d", "Flatten"}
        sure = layer.type == "ReLU" or (sure and keeps)
    return sure
