"""Every built-in network: cut anywhere, row by row, in bf16, and able to learn."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor, nn

from clicooper_hpc.models.build_model import MODEL_NAMES, build_model
from clicooper_hpc.models.layer_randomness import has_layer_randomness, seed_layer_randomness
from clicooper_hpc.models.layer_shapes import layer_shapes
from clicooper_hpc.models.segmentable import check_row_independence, check_segmentable

IMAGE, MAP, VECTOR = (3, 32, 32), (96, 16, 16), (16,)
SMALL: dict[str, dict[str, object]] = {
    "mlp": {"widths": [32, 24]},
    "vgg": {"channels": [8, 16, 24]},
    "resnet11": {"width": 8},
    "resnet18": {"width": 8},
    "vit": {"patch": 4, "dim": 16, "depth": 2, "heads": 2},
}
CASES = [(name, shape) for name in MODEL_NAMES for shape in (IMAGE, MAP)] + [("mlp", VECTOR)]
each_network = pytest.mark.parametrize(("name", "shape"), CASES)


def small(name: str, shape: tuple[int, ...], **more: object) -> nn.Sequential:
    options: Mapping[str, object] = {**SMALL[name], **more}
    return build_model(name, input_shape=shape, outputs=7, seed=3, options=options)


def rows_of(shape: tuple[int, ...], count: int = 4) -> Tensor:
    return torch.randn(count, *shape, generator=torch.Generator().manual_seed(5))


def forward_keyed(layers: nn.Sequential, first: int, rows: Tensor) -> Tensor:
    """Run ``layers`` as a segment does: each random layer seeded by its number in the whole."""
    for index, layer in enumerate(layers, start=first):
        if has_layer_randomness(layer):
            seed_layer_randomness(3, 10, 2, index, rows.device)
        rows = layer(rows)
    return rows


def whole_pass(model: nn.Sequential, rows: Tensor) -> tuple[Tensor, list[Tensor]]:
    rows = rows.clone().requires_grad_()
    result = forward_keyed(model, 0, rows)
    gradients = torch.autograd.grad(result.square().sum(), [rows, *model.parameters()])
    return result, list(gradients)


def cut_pass(model: nn.Sequential, cut: int, rows: Tensor) -> tuple[Tensor, list[Tensor]]:
    """The same in two segments that share nothing but the tensors at the cut."""
    front, back = nn.Sequential(*list(model)[:cut]), nn.Sequential(*list(model)[cut:])
    rows = rows.clone().requires_grad_()
    sent = forward_keyed(front, 0, rows)
    torch.rand(3)  # what another rank draws in between must not matter
    received = sent.detach().clone().requires_grad_()
    result = forward_keyed(back, cut, received)
    back_gradients = torch.autograd.grad(result.square().sum(), [received, *back.parameters()])
    front_gradients = torch.autograd.grad(sent, [rows, *front.parameters()], back_gradients[0])
    return result, [*front_gradients, *back_gradients[1:]]


@pytest.mark.parametrize(
    ("name", "shape", "dropout"),
    [(*case, 0.0) for case in CASES]
    + [(*case, 0.3) for case in CASES if not case[0].startswith("resnet")],  # no dropout
)
def test_two_segments_compute_the_bits_of_the_whole_wherever_it_is_cut(
    name: str, shape: tuple[int, ...], dropout: float
) -> None:
    model = small(name, shape, **({"dropout": dropout} if dropout else {}))
    assert any(has_layer_randomness(layer) for layer in model) == bool(dropout)
    rows = rows_of(shape)
    result, gradients = whole_pass(model, rows)
    assert result.shape == (4, 7)
    assert all(torch.isfinite(gradient).all() for gradient in gradients)
    assert all(gradient.abs().max() > 0 for gradient in gradients)
    for cut in range(1, len(model)):
        cut_result, cut_gradients = cut_pass(model, cut, rows)
        assert torch.equal(cut_result, result), cut
        assert all(map(torch.equal, cut_gradients, gradients)), cut


@each_network
def test_every_boundary_carries_one_contiguous_tensor_of_the_announced_shape(
    name: str, shape: tuple[int, ...]
) -> None:
    model = small(name, shape)
    shapes = layer_shapes(model, shape)
    assert shapes[0] == shape
    assert shapes[-1] == (7,)
    rows = rows_of(shape, 5)
    for layer, expected in zip(model, shapes[1:], strict=True):
        rows = layer(rows)
        assert rows.shape == (5, *expected)
        assert rows.is_contiguous()


@each_network
def test_a_row_does_not_depend_on_its_batch_mates(name: str, shape: tuple[int, ...]) -> None:
    model = small(name, shape)
    check_segmentable(model)
    check_row_independence(model, shape)
    assert not list(model.buffers())  # no running statistics of any kind
    rows = rows_of(shape, 6)
    together = model(rows)
    alone = torch.cat([model(row[None]) for row in rows])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


@each_network
def test_bf16_autocast_stays_close_to_float32(name: str, shape: tuple[int, ...]) -> None:
    model = small(name, shape)
    rows = rows_of(shape)
    exact = model(rows)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = model(rows)
    assert rough.dtype == torch.bfloat16
    gradients = torch.autograd.grad(rough.float().square().sum(), list(model.parameters()))
    assert all(torch.isfinite(gradient).all() for gradient in gradients)
    assert (rough.float() - exact).abs().max() < 0.1 * exact.abs().max()


@each_network
def test_a_few_steps_learn_a_small_problem(name: str, shape: tuple[int, ...]) -> None:
    model = small(name, shape)
    generator = torch.Generator().manual_seed(0)
    targets = torch.arange(28) % 7
    rows = torch.randn(7, *shape, generator=generator)[targets]
    rows = rows + 0.3 * torch.randn(rows.shape, generator=generator)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(15):
        loss = nn.functional.cross_entropy(model(rows), targets)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize("shape", [(64, 1, 1), (96, 7, 5), (1, 28, 28)])
def test_convolutional_networks_take_odd_and_tiny_maps(shape: tuple[int, ...]) -> None:
    for name in ("vgg", "resnet11", "resnet18"):
        model = small(name, shape)
        rows = rows_of(shape)
        spread = model(rows).std(0)
        assert (spread > 1e-4).all(), name  # normalising a 1x1 map must not wipe it out


def test_pools_equal_those_of_torch() -> None:
    from clicooper_hpc.models.layers import MaxPool2x2, SpatialMean

    maps = rows_of((4, 7, 9))
    assert torch.equal(MaxPool2x2()(maps), nn.functional.max_pool2d(maps, 2))
    torch.testing.assert_close(SpatialMean()(maps), maps.mean((2, 3)))
    maps.requires_grad_()
    mine = torch.autograd.grad(MaxPool2x2()(maps).square().sum(), maps)
    theirs = torch.autograd.grad(nn.functional.max_pool2d(maps, 2).square().sum(), maps)
    assert torch.equal(mine[0], theirs[0])


def test_attention_equals_the_one_of_torch() -> None:
    from clicooper_hpc.models.initial_weights import set_initial_weights
    from clicooper_hpc.models.vit import SelfAttention

    ours = SelfAttention(dim=12, heads=3)
    set_initial_weights(ours, 1, gain=1.0)
    theirs = nn.MultiheadAttention(12, 3, batch_first=True)
    theirs.load_state_dict(
        {
            "in_proj_weight": ours.query_key_value.weight,
            "in_proj_bias": ours.query_key_value.bias,
            "out_proj.weight": ours.merge.weight,
            "out_proj.bias": ours.merge.bias,
        }
    )
    tokens = rows_of((5, 12))
    expected, _ = theirs(tokens, tokens, tokens, need_weights=False)
    torch.testing.assert_close(ours(tokens), expected)
