"""Shapes at boundaries, parameters and operations, and what may not cross a boundary."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from clicooper_hpc.errors import UsageError
from clicooper_hpc.models.build_model import MODEL_NAMES, build_model
from clicooper_hpc.models.layer_shapes import count_layer_parameters, layer_flops, layer_shapes


class Apply(nn.Module):
    """A layer made of a function."""

    def __init__(self, function: Callable[[Tensor], object]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> object:
        return self.function(x)


def test_shapes_and_costs_of_a_network_done_by_hand() -> None:
    model = build_model(
        "vgg", input_shape=(3, 8, 8), outputs=5, seed=0, options={"channels": [8, "M"]}
    )
    assert layer_shapes(model, (3, 8, 8)) == [
        (3, 8, 8),
        (8, 8, 8),
        (8, 8, 8),
        (8, 8, 8),
        (8, 4, 4),
        (8,),
        (5,),
    ]
    assert count_layer_parameters(model) == 3 * 8 * 9 + 2 * 8 + 8 * 5 + 5
    assert count_layer_parameters(list(model)[1:3]) == count_layer_parameters([model[1]]) == 16
    assert layer_flops(model, (3, 8, 8)) == [2 * 8 * 64 * 27, 0, 0, 0, 0, 2 * 8 * 5]


def test_attention_is_counted_in_own_and_in_torchs_blocks() -> None:
    tokens, dim, hidden = 16, 12, 24
    block = 2 * tokens * dim * 4 * dim + 2 * 2 * tokens**2 * dim + 2 * 2 * tokens * dim * hidden
    options = {"patch": 2, "dim": dim, "depth": 1, "heads": 3, "mlp_ratio": 2}
    model = build_model("vit", input_shape=(3, 8, 8), outputs=5, seed=0, options=options)
    flops = layer_flops(model, (3, 8, 8))
    assert flops == [2 * tokens * dim * 3 * 4, block, 0, 0, 2 * dim * 5]
    theirs = nn.Sequential(nn.TransformerEncoderLayer(dim, 3, hidden, batch_first=True))
    assert layer_flops(theirs, (tokens, dim)) == [block]


@pytest.mark.parametrize("name", MODEL_NAMES)
def test_operations_are_those_that_torch_counts(name: str) -> None:
    model = build_model(name, input_shape=(3, 32, 32), outputs=5, seed=0, options={})
    rows = torch.zeros(1, 3, 32, 32, requires_grad=True)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model.eval()(rows)
    assert sum(layer_flops(model, (3, 32, 32))) == counter.get_total_flops() > 0


def test_measuring_leaves_no_trace() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(0.5))
    model[1].eval()
    modes = [module.training for module in model.modules()]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    generator = torch.get_rng_state()
    layer_shapes(model, (4,))
    layer_flops(model, (4,))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert [module.training for module in model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), generator)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_failing_layer_is_named_and_modes_are_put_back() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Conv2d(3, 3, 1))
    expected = r"layer 2 \(Conv2d\) of the network: fails on samples of shape \[4\]"
    for measure in (layer_shapes, layer_flops):
        with pytest.raises(UsageError, match=expected) as caught:
            measure(model, (4,))
        assert "\n" not in str(caught.value)
    assert model.training


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda x: (x, x), "gives a tuple"),
        (lambda x: x.long(), "gives torch.int64"),
        (lambda x: x.sum(), r"2 rows into a tensor of shape \[\]"),
        (lambda x: x.reshape(-1, 2), "Axis 0 must stay the rows"),
        (lambda x: x.transpose(1, 2), "contiguous"),
        (lambda x: x.relu_(), "in place"),
    ],
)
def test_what_may_not_cross_a_boundary(function: Callable[[Tensor], object], expected: str) -> None:
    with pytest.raises(UsageError, match=rf"layer 1 \(Apply\).*{expected}"):
        layer_shapes(nn.Sequential(nn.Linear(4, 4), Apply(function)), (3, 4))
