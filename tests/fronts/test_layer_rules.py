"""Shapes by arithmetic are those that torch computes, and what torch refuses is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from clicooper_hpc.errors import DataError
from clicooper_hpc.fronts.layer_spec import (
    LAYER_TYPES,
    build_layers,
    expected_layer_tensors,
    parse_layers,
    trace_layer_shapes,
)

small = st.integers(1, 6)
few = st.integers(0, 3)
WINDOW = {"kernel_size": small, "stride": small, "padding": few}
SETTINGS: dict[str, dict[str, st.SearchStrategy[Any]]] = {
    "Conv2d": {
        "in_channels": small,
        "out_channels": small,
        "groups": st.integers(1, 3),
        "bias": st.booleans(),
        **WINDOW,
    },
    "BatchNorm2d": {"num_features": small},
    "GroupNorm": {"num_groups": st.integers(1, 3), "num_channels": small},
    "LayerNorm": {"normalized_shape": small},
    "MaxPool2d": WINDOW,
    "AvgPool2d": WINDOW,
    "AdaptiveAvgPool2d": {"output_size": small},
    "ZeroPad2d": {"before": few, "after": few},
    "Linear": {"in_features": small, "out_features": small, "bias": st.booleans()},
}
INNER = sorted(set(LAYER_TYPES) - {"Residual"})
#: Rows that are no maps: torch takes some for a map without a batch, or for a batch of one kind
#: more; ours are refused.
MAPS_ONLY = {"Conv2d", "BatchNorm2d", "MaxPool2d", "AvgPool2d", "AdaptiveAvgPool2d", "ZeroPad2d"}


@st.composite
def layer_of(draw: st.DrawFn, kinds: list[str]) -> dict[str, Any]:
    kind = draw(st.sampled_from(kinds))
    values = {name: draw(values) for name, values in SETTINGS.get(kind, {}).items()}
    if kind == "Residual":
        values["layers"] = draw(st.lists(layer_of(INNER), min_size=1, max_size=3))
    return {"type": kind, **values}


shapes = st.lists(small, min_size=1, max_size=3).map(tuple)


def of_torch(described: list[dict[str, Any]], shape: tuple[int, ...]) -> Any:
    """Tensors and the shape behind the layers, or None where torch refuses."""
    try:
        network = build_layers(parse_layers(described, where="f"))
        rows = network(torch.zeros(2, *shape))
    except (RuntimeError, ValueError, IndexError):
        return None
    stored = {
        name: tuple(value.shape)
        for name, value in network.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    return stored, tuple(rows.shape[1:])


def by_rule(described: list[dict[str, Any]], shape: tuple[int, ...]) -> Any:
    layers = parse_layers(described, where="f")
    try:
        return (
            expected_layer_tensors(layers, where="f"),
            trace_layer_shapes(layers, shape, where="f")[-1],
        )
    except DataError:
        return None


@settings(max_examples=600, deadline=None)
@given(layer_of(list(LAYER_TYPES)), shapes)
@example({"type": "Linear", "in_features": 3, "out_features": 2, "bias": True}, (4, 3))
@example({"type": "GroupNorm", "num_groups": 2, "num_channels": 4}, (4,))
@example({"type": "MaxPool2d", "kernel_size": 2, "stride": 2, "padding": 1}, (2, 3, 3))
def test_one_layer(described: dict[str, Any], shape: tuple[int, ...]) -> None:
    mine = by_rule([described], shape)
    if len(shape) != 3 and described["type"] in MAPS_ONLY:
        assert mine is None
        return
    if len(shape) != 3 and described["type"] == "Residual":
        return
    assert mine == of_torch([described], shape)


@settings(max_examples=300, deadline=None)
@given(st.lists(layer_of(list(LAYER_TYPES)), min_size=2, max_size=4))
def test_layers_behind_each_other(described: list[dict[str, Any]]) -> None:
    shape = (4, 6, 6)
    mine = by_rule(described, shape)
    if mine is not None:
        assert mine == of_torch(described, shape)


def test_most_types_are_tried_where_they_fit() -> None:
    """Or the tests above could compare refusals with refusals."""
    fitting: list[dict[str, Any]] = [
        {"type": "ZeroPad2d", "before": 0, "after": 1},
        {"type": "Conv2d", "in_channels": 4, "out_channels": 6, "kernel_size": 3, "groups": 2},
        {"type": "BatchNorm2d", "num_features": 6},
        {"type": "Residual", "layers": [{"type": "GroupNorm", "num_groups": 3, "num_channels": 6}]},
        {"type": "MaxPool2d", "kernel_size": 2, "stride": 1},
        {"type": "AvgPool2d", "kernel_size": 2, "stride": 1, "padding": 1},
        {"type": "AdaptiveAvgPool2d", "output_size": 2},
        {"type": "Identity"},
        {"type": "LayerNorm", "normalized_shape": 2},
        {"type": "Flatten"},
        {"type": "Linear", "in_features": 24, "out_features": 5},
    ]
    for count in range(1, len(fitting) + 1):
        mine = by_rule(fitting[:count], (4, 6, 6))
        assert mine is not None
        assert mine == of_torch(fitting[:count], (4, 6, 6))


@pytest.mark.parametrize(
    ("described", "says"),
    [
        ({"type": "Linear", "in_features": 3, "out_features": 2}, "it takes 3 numbers"),
        ({"type": "BatchNorm2d", "num_features": 3}, "it takes 3 channels"),
        (
            {"type": "MaxPool2d", "kernel_size": 7, "stride": 1},
            "its window of 7 is larger than the map",
        ),
    ],
)
def test_the_reason_is_given(described: dict[str, Any], says: str) -> None:
    with pytest.raises(
        DataError, match=rf"layer 0 .* cannot take rows of shape \(4, 6, 6\).*{says}"
    ):
        trace_layer_shapes(parse_layers([described], where="f"), (4, 6, 6), where="f")
