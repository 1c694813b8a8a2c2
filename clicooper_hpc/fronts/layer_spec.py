"""The layer list: a small, safe description of an ``nn.Sequential`` in JSON.

A list of objects such as ``{"type": "Conv2d", "in_channels": 3, "out_channels": 48,
"kernel_size": 3, "bias": false}``. Only the layer types of `LAYER_TYPES` and only their named
settings are taken, each checked for kind and range before anything is built, so a description
can neither run code nor reserve memory: shapes are traced without storage. All layers treat the
rows of a batch one by one; BatchNorm does so because a front always runs on stored statistics.

``{"type": "Residual", "layers": [...]}`` adds what its layers give to what it was given (He, Zhang,
Ren and Sun, "Deep Residual Learning for Image Recognition", CVPR 2016); they are named
``<layer>.<inner layer>.<tensor>``. ``{"type": "ZeroPad2d", "before": 0, "after": 1}`` puts zeros
above and left of a map, and below and right of it: the "SAME" padding of TensorFlow, which is not
the same on both sides where a stride is 2. ``SpatialMean`` is the mean over all places of a map, as
a vector; ``Identity`` changes nothing and keeps the numbers of the layers behind it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from torch import nn

from clicooper_hpc.errors import DataError
from clicooper_hpc.fronts.layer_rules import output_shape_of_layer, tensor_shapes_of_layer
from clicooper_hpc.models.layers import ResidualLayers, SpatialMean

__all__ = [
    "LAYER_TYPES",
    "Layer",
    "build_layers",
    "expected_layer_tensors",
    "layers_stay_non_negative",
    "layers_to_objects",
    "parse_layers",
    "trace_layer_shapes",
    "walk_layers",
]

_MAX_LAYERS = 512  # with those inside of others
_MAX_DEPTH = 3  # of Residual in Residual
_MAX_INT = 1 << 20


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer: its type, every setting with defaults filled in, and the layers inside it."""

    type: str
    settings: tuple[tuple[str, int | float | bool], ...] = ()
    layers: tuple[Layer, ...] = ()


def _zero_pad(before: int, after: int) -> nn.Module:
    return nn.ZeroPad2d((before, after, before, after))


@dataclass(frozen=True, slots=True)
class _Setting:
    kind: type[int] | type[float] | type[bool]
    default: int | float | bool | None = None
    low: float = 1
    high: int = _MAX_INT


_COUNT = _Setting(int)
_PADDING = _Setting(int, 0, low=0)
_EPS = _Setting(float, 1e-5, low=1e-12)
_ZEROS = _Setting(int, low=0, high=64)

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
    "LayerNorm": {"normalized_shape": _COUNT, "eps": _EPS},
    "ReLU": {},
    "ReLU6": {},
    "GELU": {},
    "ZeroPad2d": {"before": _ZEROS, "after": _ZEROS},
    "MaxPool2d": {"kernel_size": _COUNT, "stride": _COUNT, "padding": _PADDING},
    "AvgPool2d": {"kernel_size": _COUNT, "stride": _COUNT, "padding": _PADDING},
    "AdaptiveAvgPool2d": {"output_size": _COUNT},
    "SpatialMean": {},
    "Flatten": {},
    "Identity": {},
    "Linear": {"in_features": _COUNT, "out_features": _COUNT, "bias": _Setting(bool, True)},
    "Residual": {},
}

LAYER_TYPES: tuple[str, ...] = tuple(_SETTINGS)
_OWN_MODULES: Mapping[str, Callable[..., nn.Module]] = {
    "ZeroPad2d": _zero_pad,
    "SpatialMean": SpatialMean,
    "Residual": ResidualLayers,
}
_MODULES: Mapping[str, Callable[..., nn.Module]] = {
    name: _OWN_MODULES.get(name) or getattr(nn, name) for name in LAYER_TYPES
}


def _value(given: object, rule: _Setting, name: str, where: str) -> int | float | bool:
    # bool is an int to Python, so it is asked for first.
    if rule.kind is bool:
        if isinstance(given, bool):
            return given
        raise DataError(f"{name} must be true or false", where=where)
    if rule.kind is float and isinstance(given, int | float) and not isinstance(given, bool):
        if rule.low <= given <= 1:
            return float(given)
    elif isinstance(given, int) and not isinstance(given, bool) and rule.low <= given <= rule.high:
        return given
    limit = 1 if rule.kind is float else rule.high
    raise DataError(f"{name} must be a number from {rule.low} to {limit}", where=where)


def _layer(given: object, where: str, depth: int) -> Layer:
    if not isinstance(given, Mapping):
        raise DataError("a layer must be an object with a 'type'", where=where)
    kind = given.get("type")
    if not isinstance(kind, str) or kind not in _SETTINGS:
        raise DataError(
            f"unknown layer type {kind!r}", where=where, remedy=f"Use one of {list(LAYER_TYPES)}"
        )
    rules = _SETTINGS[kind]
    nested = kind == "Residual"
    known = {"type", *rules, *(["layers"] if nested else [])}
    # Refused, not ignored: a misspelt setting would build another network in silence.
    unknown = sorted(str(name) for name in given if name not in known)
    if unknown:
        raise DataError(
            f"{kind} has no setting {unknown[0]!r}",
            where=where,
            remedy=f"It has {sorted(known - {'type'})}",
        )
    settings: list[tuple[str, int | float | bool]] = []
    for name, rule in rules.items():
        if name in given:
            settings.append((name, _value(given[name], rule, name, f"{where} ({kind})")))
        elif rule.default is None:
            raise DataError(f"{kind} needs {name!r}", where=where)
        else:
            settings.append((name, rule.default))
    inner: tuple[Layer, ...] = ()
    if nested:
        # Before the list is looked at: a file may nest thousands.
        if depth == _MAX_DEPTH:
            raise DataError(f"more than {_MAX_DEPTH} layers inside each other", where=where)
        inner = _layer_list(given.get("layers"), f"{where} ({kind})", depth + 1)
    return Layer(kind, tuple(settings), inner)


def _layer_list(given: object, where: str, depth: int) -> tuple[Layer, ...]:
    if not isinstance(given, Sequence) or isinstance(given, str | bytes) or not given:
        raise DataError("'layers' must be a list of layers", where=where)
    if len(given) > _MAX_LAYERS:
        raise DataError(f"more than {_MAX_LAYERS} layers", where=where)
    return tuple(_layer(item, f"{where}: layer {i}", depth) for i, item in enumerate(given))


def parse_layers(given: object, *, where: str) -> tuple[Layer, ...]:
    """Check a decoded JSON or TOML layer list.

    Raises
    ------
    DataError
        For anything but a non-empty list of whitelisted layers with valid settings.
    """
    layers = _layer_list(given, where, 0)
    if sum(1 for _ in walk_layers(layers)) > _MAX_LAYERS:
        raise DataError(f"more than {_MAX_LAYERS} layers", where=where)
    return layers


def walk_layers(layers: Sequence[Layer]) -> Iterator[Layer]:
    """Yield every layer, and behind it those inside it."""
    for layer in layers:
        yield layer
        yield from walk_layers(layer.layers)


def layers_to_objects(layers: Sequence[Layer]) -> list[dict[str, object]]:
    """Return the JSON form that `parse_layers` reads back unchanged."""
    return [
        {
            "type": layer.type,
            **dict(layer.settings),
            **({"layers": layers_to_objects(layer.layers)} if layer.layers else {}),
        }
        for layer in layers
    ]


def build_layers(layers: Sequence[Layer]) -> nn.Sequential:
    """Build the network in evaluation mode, without gradients; starting weights are torch's.

    Raises
    ------
    ValueError
        Where torch refuses a combination of settings (groups that do not divide channels).
    """
    # Evaluation mode, or BatchNorm would mix the rows of a batch.
    return nn.Sequential(*map(_module, layers)).eval().requires_grad_(False)


def _module(layer: Layer) -> nn.Module:
    return _MODULES[layer.type](*map(_module, layer.layers), **dict(layer.settings))


def expected_layer_tensors(layers: Sequence[Layer], *, where: str) -> dict[str, tuple[int, ...]]:
    """Name and shape of every stored tensor, without reserving memory for one.

    Raises
    ------
    DataError
        Where the settings of a layer do not fit together.
    """
    named: dict[str, tuple[int, ...]] = {}
    for index, layer in enumerate(layers):
        if layer.layers:
            own = expected_layer_tensors(layer.layers, where=where)
        else:
            try:
                own = tensor_shapes_of_layer(layer.type, dict(layer.settings))
            except ValueError as error:
                raise DataError(f"layers do not fit: {error}", where=where) from error
        named |= {f"{index}.{name}": shape for name, shape in own.items()}
    return named


def trace_layer_shapes(
    layers: Sequence[Layer], input_shape: Sequence[int], *, where: str
) -> tuple[tuple[int, ...], ...]:
    """Shape of one row after each layer.

    Raises
    ------
    DataError
        Naming the first layer that cannot take what the one before gives.
    """
    shape = tuple(input_shape)
    shapes: list[tuple[int, ...]] = []
    for index, layer in enumerate(layers):
        try:
            after = _shape_behind(layer, shape)
        except ValueError as error:
            raise DataError(
                f"layer {index} ({layer.type}) cannot take rows of shape {shape}: {error}",
                where=where,
            ) from error
        shapes.append(after)
        shape = after
    return tuple(shapes)


def _shape_behind(layer: Layer, shape: tuple[int, ...]) -> tuple[int, ...]:
    if not layer.layers:
        return output_shape_of_layer(layer.type, dict(layer.settings), shape)
    inner = shape
    for one in layer.layers:
        inner = _shape_behind(one, inner)
    if inner != shape:
        raise ValueError("the layers of a Residual change the shape of a row")
    return shape


def layers_stay_non_negative(layers: Sequence[Layer], before: bool = False) -> bool:
    """Whether the outputs are provably >= 0: a ReLU, then only pooling, zeros or flattening.

    ``before``: whether the input is.
    """
    sure = before
    for layer in layers:
        if layer.type == "Residual":
            sure = sure and layers_stay_non_negative(layer.layers, sure)
            continue
        # Pooling takes means and maxima of what is there, so no sign changes.
        keeps = layer.type in {
            "MaxPool2d",
            "AvgPool2d",
            "AdaptiveAvgPool2d",
            "SpatialMean",
            "Flatten",
            "Identity",
            "ZeroPad2d",
        }
        sure = layer.type in {"ReLU", "ReLU6"} or (sure and keeps)
    return sure
