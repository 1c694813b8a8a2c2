"""Where numbers stopped being finite is named by layer, with the size of what came in."""

from __future__ import annotations

import torch
from torch import nn

from clicooper_hpc.pipeline.divergence import describe_divergence


def scale(factor: float) -> nn.Linear:
    layer = nn.Linear(2, 2, bias=False)
    layer.weight.data = factor * torch.eye(2)
    return layer


ROWS = torch.full((3, 2), 8.0)


def test_the_layer_that_overflows_is_named() -> None:
    layers = nn.Sequential(scale(1e20), nn.ReLU(), scale(1e20))
    said = describe_divergence(layers, 4, ROWS)
    assert said == (
        "first behind layer 6 (Linear), from numbers of at most 8.0e+20; what came in was at most "
        "8.0e+00"
    )


def test_weights_that_are_not_finite_come_first() -> None:
    layers = nn.Sequential(scale(1.0), scale(float("nan")))
    assert "first in the weights of layer 1 (weight)" in describe_divergence(layers, 0, ROWS)


def test_what_came_in_is_named_where_the_layers_are_sound() -> None:
    said = describe_divergence(nn.Sequential(scale(1.0)), 0, 1e30 * ROWS)
    assert said == "first behind all layers; what came in was at most 8.0e+30"
