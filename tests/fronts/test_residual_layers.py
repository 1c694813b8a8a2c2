"""Residual, padded and depthwise layers: what they compute, and what of them is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from front_cases import random_rows
from torch import Tensor
from torch.nn.functional import conv2d, pad, relu6

from clicooper_hpc.errors import DataError
from clicooper_hpc.fronts.build_front import FrontBase, build_front
from clicooper_hpc.fronts.front import restore_front
from clicooper_hpc.fronts.layer_spec import (
    expected_layer_tensors,
    layers_stay_non_negative,
    layers_to_objects,
    parse_layers,
    trace_layer_shapes,
)
from clicooper_hpc.fronts.weights import load_weights, parse_weights_description, save_weights

SHAPE = (2, 9, 9)
NARROW = {"type": "Conv2d", "in_channels": 6, "out_channels": 2, "kernel_size": 1}
WIDE = {"type": "Conv2d", "in_channels": 2, "out_channels": 6, "kernel_size": 1}
DEPTHWISE = {
    "type": "Conv2d",
    "in_channels": 6,
    "out_channels": 6,
    "kernel_size": 3,
    "padding": 1,
    "groups": 6,
}
LAYERS: list[dict[str, object]] = [
    {"type": "Residual", "layers": [WIDE, {"type": "ReLU6"}, DEPTHWISE, NARROW]},
    {"type": "ZeroPad2d", "before": 0, "after": 1},
    {**DEPTHWISE, "in_channels": 2, "out_channels": 2, "groups": 2, "stride": 2, "padding": 0},
    {"type": "ReLU6"},
]
DESCRIPTION = {
    "version": 1,
    "input_shape": list(SHAPE),
    "layers": LAYERS,
    "mean": [0.25],
    "std": [0.5],
    "trained_on": "nothing",
    "name": "A net",
    "license": "CC0",
    "source": "a seed",
}


def weights() -> dict[str, Tensor]:
    torch.manual_seed(3)
    shapes = expected_layer_tensors(parse_layers(LAYERS, where="test"), where="test")
    return {name: torch.randn(shape) * 0.6 for name, shape in shapes.items()}


def saved(path: Path) -> Path:
    save_weights(path, parse_weights_description(DESCRIPTION, where="test"), weights())
    return path


def by_hand(x: np.ndarray) -> np.ndarray:
    state, given = weights(), (torch.from_numpy(x) - 0.25) / 0.5

    def convolved(y: Tensor, name: str, **how: int) -> Tensor:
        return conv2d(y, state[f"{name}.weight"], state[f"{name}.bias"], **how)

    y = relu6(convolved(given, "0.0"))
    y = given + convolved(convolved(y, "0.2", padding=1, groups=6), "0.3")
    # Left, right, above, below.
    return relu6(convolved(pad(y, (0, 1, 0, 1)), "2", stride=2, groups=2)).numpy()


def test_a_residual_front_computes_what_torch_computes_and_says_where_it_is_from(
    tmp_path: Path,
) -> None:
    path = saved(tmp_path / "net.safetensors")
    front = build_front(FrontBase(kind="weights", input_shape=SHAPE, weights=path))
    x = random_rows(70, SHAPE)
    assert front.output_shape == (2, 4, 4)
    assert front.non_negative
    assert np.allclose(front.apply(x), by_hand(x), atol=1e-5)
    assert front.apply(x[7:8]).tobytes() == front.apply(x)[7:8].tobytes()
    assert front.origin.text == "A net (CC0, a seed), layers 0 to 3 of 4, trained on nothing"
    again = restore_front(front.front_settings(), front.front_tensors())
    assert again == front
    assert again.origin == front.origin
    assert again.apply(x).tobytes() == front.apply(x).tobytes()


def test_a_description_survives_its_own_file(tmp_path: Path) -> None:
    given = parse_weights_description(DESCRIPTION, where="test")
    assert layers_to_objects(given.layers)[0]["layers"] == layers_to_objects(given.layers[0].layers)
    assert parse_layers(layers_to_objects(given.layers), where="test") == given.layers
    loaded = load_weights(saved(tmp_path / "net.safetensors"), 1)
    assert loaded.network.layers == given.layers[:1]
    assert set(loaded.network.weights) == {name for name in weights() if name.startswith("0.")}
    with pytest.raises(DataError, match="'license' must be a text"):
        parse_weights_description({**DESCRIPTION, "license": ["CC0"]}, where="test")


def test_batch_norms_inside_count_as_frozen_statistics(tmp_path: Path) -> None:
    inner: list[dict[str, object]] = [{"type": "BatchNorm2d", "num_features": 2}]
    content = {**DESCRIPTION, "layers": [{"type": "Residual", "layers": inner}]}
    description = parse_weights_description(content, where="test")
    shapes = expected_layer_tensors(description.layers, where="test")
    path = tmp_path / "net.safetensors"
    save_weights(path, description, {name: torch.ones(shape) for name, shape in shapes.items()})
    front = build_front(FrontBase(kind="weights", input_shape=SHAPE, weights=path))
    assert front.normalisation == "frozen statistics"


def nested(depth: int) -> list[dict[str, object]]:
    layers: list[dict[str, object]] = [{"type": "ReLU"}]
    for _ in range(depth):
        layers = [{"type": "Residual", "layers": layers}]
    return layers


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ([{"type": "Residual"}], "layer 0 .Residual.*'layers' must be a list"),
        ([{"type": "Residual", "layers": []}], "'layers' must be a list"),
        ([{"type": "Residual", "layers": "ReLU"}], "'layers' must be a list"),
        ([{"type": "Residual", "layers": [3]}], "layer 0 .Residual.: layer 0.*object"),
        ([{"type": "Residual", "layers": [{"type": "eval"}]}], "unknown layer type 'eval'"),
        ([{"type": "Residual", "layers": nested(1), "bias": True}], "no setting 'bias'"),
        ([{"type": "ReLU", "layers": nested(1)}], "ReLU has no setting 'layers'"),
        (nested(4), "more than 3 layers inside each other"),
        (nested(900), "more than 3 layers inside each other"),
        ([{"type": "Residual", "layers": [{"type": "ReLU"}] * 300}] * 2, "more than 512 layers"),
        ([{"type": "ZeroPad2d", "before": 0}], "needs 'after'"),
        ([{"type": "ZeroPad2d", "before": 0, "after": 65}], "after must be a number from 0 to 64"),
        ([{"type": "ZeroPad2d", "before": -1, "after": 0}], "before must be"),
        ([{**DEPTHWISE, "groups": 4}], "do not fit"),
    ],
)
def test_a_wrong_list_is_refused(given: object, says: str) -> None:
    with pytest.raises(DataError, match=says):
        expected_layer_tensors(parse_layers(given, where="net.json"), where="net.json")


@pytest.mark.parametrize(
    "inner",
    [
        [WIDE],
        [{"type": "AdaptiveAvgPool2d", "output_size": 1}],
        [{"type": "ZeroPad2d", "before": 0, "after": 1}],
        [{"type": "Flatten"}],
    ],
)
def test_a_residual_whose_layers_change_the_shape_is_refused(
    inner: list[dict[str, object]],
) -> None:
    layers = parse_layers([{"type": "ReLU"}, {"type": "Residual", "layers": inner}], where="f")
    with pytest.raises(DataError, match=r"layer 1 \(Residual\) cannot take rows of shape"):
        trace_layer_shapes(layers, SHAPE, where="f")


@pytest.mark.parametrize(
    ("given", "sure"),
    [
        ([{"type": "ReLU6"}], True),
        ([{"type": "ReLU6"}, {"type": "ZeroPad2d", "before": 1, "after": 1}], True),
        ([{"type": "ZeroPad2d", "before": 1, "after": 1}], False),
        ([{"type": "Residual", "layers": [{"type": "ReLU"}]}], False),
        ([{"type": "ReLU"}, {"type": "Residual", "layers": [{"type": "ReLU"}]}], True),
        ([{"type": "ReLU"}, {"type": "Residual", "layers": [{"type": "GELU"}]}], False),
    ],
)
def test_a_sum_is_non_negative_where_both_parts_are(given: object, sure: bool) -> None:
    assert layers_stay_non_negative(parse_layers(given, where="f")) is sure


def test_a_file_that_nests_deeply_ends_in_one_error(tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    content = f'{{"type":"Residual","layers":[{"[" * 50_000}'
    from safetensors.torch import save_file

    for text in (content, json.dumps({**DESCRIPTION, "layers": nested(150)})):
        save_file({"a": torch.zeros(1)}, path, metadata={"clicooper.front": text})
        with pytest.raises(DataError, match=r"net\.safetensors"):
            load_weights(path)
