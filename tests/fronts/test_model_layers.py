"""Networks of the package as layers of a front: the same numbers behind every cut."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from clicooper_hpc.errors import DataError
from clicooper_hpc.fronts.layer_spec import layers_to_objects, parse_layers
from clicooper_hpc.fronts.model_layers import describe_model_layers
from clicooper_hpc.fronts.network import Network
from clicooper_hpc.models.build_model import build_model

#: Two layers of float32 sums in another order; the networks' numbers are about 1.
TOLERANCE = 1e-5
RESNET = {"width": 8, "mean": (0.5, 0.4, 0.3), "std": (0.2, 0.3, 0.4), "shift": 2, "mirror": True}
NETWORKS: dict[str, tuple[str, dict[str, Any], tuple[int, ...]]] = {
    "resnet11": ("resnet11", RESNET, (3, 16, 16)),
    "vgg": ("vgg", {"channels": (8, "M", 16), "dropout": 0.5}, (1, 9, 9)),
    "mlp": ("mlp", {"widths": (12, 8), "stem": (10,), "dropout": 0.3}, (1, 6, 6)),
    "mlp on vectors": ("mlp", {"widths": (12,), "norm": False}, (20,)),
}


def network(name: str) -> tuple[nn.Sequential, tuple[int, ...]]:
    model, options, shape = NETWORKS[name]
    built = build_model(model, input_shape=shape, outputs=7, seed=3, options=options)
    # Norms that begin as the identity would hide weights that are not taken along.
    with torch.no_grad():
        for parameter in built.parameters():
            generator = torch.Generator().manual_seed(parameter.numel())
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    return built.eval(), shape


@pytest.mark.parametrize("name", NETWORKS)
def test_a_front_computes_what_the_network_does_behind_every_layer(name: str) -> None:
    model, shape = network(name)
    rows = torch.rand(5, *shape, generator=torch.Generator().manual_seed(1))
    state = model.state_dict()
    for cut in range(1, len(model) + 1):
        known = describe_model_layers(list(model)[:cut], where="test")
        kept = {key: value for key, value in state.items() if int(key.split(".")[0]) < cut}
        front = Network(known.layers, shape, known.mean, known.std, kept)
        with torch.no_grad():
            wanted = model[:cut](rows)
        found = front.apply(rows)
        assert found.shape == wanted.shape
        torch.testing.assert_close(found, wanted, atol=TOLERANCE, rtol=TOLERANCE)
        # What is stored and read back is the same list.
        assert parse_layers(layers_to_objects(known.layers), where="test") == known.layers


def test_a_changed_weight_changes_the_front() -> None:
    model, shape = network("resnet11")
    drawn = torch.Generator().manual_seed(2)
    rows = torch.rand(3, *shape, generator=drawn)
    known = describe_model_layers(list(model), where="test")
    before = Network(known.layers, shape, known.mean, known.std, model.state_dict()).apply(rows)
    for name, value in model.state_dict().items():
        state = {**model.state_dict(), name: value + torch.randn(value.shape, generator=drawn)}
        after = Network(known.layers, shape, known.mean, known.std, state).apply(rows)
        assert not torch.allclose(before, after, atol=TOLERANCE), name


@pytest.mark.parametrize(
    ("model", "options", "layer"),
    [("resnet18", {"width": 8}, "layer 3 (BasicBlock)"), ("vit", {}, "layer 0 (")],
)
def test_a_layer_without_counterpart_is_named(
    model: str, options: dict[str, Any], layer: str
) -> None:
    built = build_model(model, input_shape=(3, 16, 16), outputs=5, seed=0, options=options)
    with pytest.raises(DataError) as caught:
        describe_model_layers(list(built), where="network of run 12")
    for part in ("network of run 12", layer, "front.cut"):
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("layer", "why"),
    [
        (nn.Conv2d(1, 2, 3, padding_mode="reflect", padding=1), "reflect"),
        (nn.Conv2d(1, 2, 3, dilation=2), "dilated"),
        (nn.Conv2d(1, 2, 3, padding="same"), "'same'"),
        (nn.Conv2d(1, 2, (3, 5)), "(3, 5)"),
        (nn.GroupNorm(1, 4, affine=False), "no weights"),
        (nn.LayerNorm([4, 4]), "2 axes"),
        (nn.LayerNorm(4, bias=False), "no weights"),
        (nn.GELU(approximate="tanh"), "approximated"),
        (nn.Flatten(2), "keeps axes"),
        (nn.Tanh(), "no such layer"),
    ],
)
def test_settings_that_a_front_does_not_have_are_refused(layer: nn.Module, why: str) -> None:
    with pytest.raises(DataError, match=r"layer 1 \(") as caught:
        describe_model_layers([nn.Identity(), layer], where="test")
    assert why in str(caught.value)


def test_a_class_of_somebodys_own_is_no_layer_of_a_front() -> None:
    class Doubled(nn.ReLU):
        def forward(self, rows: torch.Tensor) -> torch.Tensor:
            return 2 * super().forward(rows)

    with pytest.raises(DataError, match="Doubled"):
        describe_model_layers([Doubled()], where="test")
