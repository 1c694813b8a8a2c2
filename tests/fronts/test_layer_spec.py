"""Layer lists: what is taken, what is refused, and what is proved about their outputs."""

from __future__ import annotations

import pytest
from front_cases import LAYERS, SHAPE

from clicooper_hpc.errors import DataError
from clicooper_hpc.fronts.layer_spec import (
    LAYER_TYPES,
    expected_layer_tensors,
    layers_stay_non_negative,
    layers_to_objects,
    parse_layers,
    trace_layer_shapes,
)


def test_a_layer_list_survives_its_own_json_form() -> None:
    layers = parse_layers(LAYERS, where="f")
    assert parse_layers(layers_to_objects(layers), where="f") == layers


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ([], "list of layers"),
        ("Conv2d", "list of layers"),
        ([3], "layer 0.*object"),
        ([{"type": "Sequential"}], "unknown layer type 'Sequential'"),
        ([{"type": "__import__"}], "unknown layer type"),
        ([{"type": "ReLU"}, {"type": "ReLU", "inplace": True}], "layer 1.*no setting 'inplace'"),
        ([{"type": "Linear", "in_features": 3}], "needs 'out_features'"),
        ([{"type": "Linear", "in_features": 3, "out_features": 0}], "out_features must be"),
        ([{"type": "Linear", "in_features": 3, "out_features": 1 << 40}], "out_features must be"),
        ([{"type": "Linear", "in_features": True, "out_features": 2}], "in_features must be"),
        ([{"type": "Linear", "in_features": 3, "out_features": 2, "bias": 1}], "true or false"),
        ([{"type": "GroupNorm", "num_groups": 3, "num_channels": 4}], "do not fit"),
        ([{"type": "GroupNorm", "num_groups": 2, "num_channels": 4, "eps": -1.0}], "eps must be"),
        ([{"type": "Flatten"}] * 600, "more than"),
    ],
)
def test_everything_but_a_valid_list_is_refused(given: object, says: str) -> None:
    with pytest.raises(DataError, match=says):
        expected_layer_tensors(parse_layers(given, where="weights.json"), where="weights.json")


def test_a_huge_layer_costs_no_memory_to_describe() -> None:
    million = 1 << 20
    layers = parse_layers(
        [{"type": "Linear", "in_features": million, "out_features": million}], where="f"
    )
    assert expected_layer_tensors(layers, where="f")["0.weight"] == (million, million)  # 4 TiB


def test_the_first_layer_that_does_not_fit_is_named() -> None:
    layers = parse_layers(
        [*LAYERS[:6], {"type": "Linear", "in_features": 7, "out_features": 2}], where="f"
    )
    with pytest.raises(DataError, match=r"layer 6 \(Linear\) cannot take rows of shape \(8, 2, 2"):
        trace_layer_shapes(layers, SHAPE, where="f")
    with pytest.raises(
        DataError, match=r"layer 0 \(SpatialMean\) cannot take rows of shape \(4,\)"
    ):
        trace_layer_shapes(parse_layers([{"type": "SpatialMean"}], where="f"), (4,), where="f")


@pytest.mark.parametrize(
    ("types", "sure"),
    [
        (["ReLU"], True),
        (["ReLU", "MaxPool2d", "AvgPool2d", "AdaptiveAvgPool2d", "Flatten"], True),
        (["ReLU", "Identity", "SpatialMean", "ZeroPad2d"], True),
        (["Flatten"], False),
        (["SpatialMean"], False),
        (["ReLU", "LayerNorm"], False),
        (["ReLU", "GELU"], False),
        (["ReLU", "BatchNorm2d"], False),
        (["ReLU", "GroupNorm"], False),
        (["ReLU", "Linear"], False),
        (["ReLU", "Conv2d", "ReLU"], True),
    ],
)
def test_only_a_relu_and_what_keeps_it_proves_non_negative_outputs(
    types: list[str], sure: bool
) -> None:
    settings: dict[str, dict[str, object]] = {
        "Conv2d": {"in_channels": 1, "out_channels": 1, "kernel_size": 1},
        "BatchNorm2d": {"num_features": 1},
        "GroupNorm": {"num_groups": 1, "num_channels": 1},
        "LayerNorm": {"normalized_shape": 1},
        "Linear": {"in_features": 1, "out_features": 1},
        "ZeroPad2d": {"before": 0, "after": 1},
        "MaxPool2d": {"kernel_size": 1, "stride": 1},
        "AvgPool2d": {"kernel_size": 1, "stride": 1},
        "AdaptiveAvgPool2d": {"output_size": 1},
    }
    assert set(types) <= set(LAYER_TYPES)
    given = [{"type": name, **settings.get(name, {})} for name in types]
    assert layers_stay_non_negative(parse_layers(given, where="f")) is sure
