"""Names, options, seeds: what ``build_model`` and ``local_head`` promise."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import pytest
import torch
from torch import nn

from clicooper_hpc.errors import ExitCode, UsageError
from clicooper_hpc.models.build_model import MODEL_NAMES, build_model
from clicooper_hpc.models.local_head import local_head

MAP = (16, 8, 8)


def build(name: str, **options: object) -> nn.Sequential:
    return seeded(name, 0, options)


def seeded(name: str, seed: int, options: Mapping[str, object] | None = None) -> nn.Sequential:
    return build_model(name, input_shape=MAP, outputs=6, seed=seed, options=options or {})


def bits(model: nn.Module) -> str:
    """Digest of all parameters in order."""
    state = hashlib.sha256()
    for parameter in model.parameters():
        state.update(parameter.detach().numpy().astype("<f4").tobytes())
    return state.hexdigest()[:16]


@pytest.mark.parametrize("name", MODEL_NAMES)
def test_same_seed_same_bits_whatever_was_drawn_before(name: str) -> None:
    first = bits(seeded(name, 4))
    torch.manual_seed(99)
    torch.rand(17)
    assert bits(seeded(name, 4)) == first
    assert bits(seeded(name, 5)) != first


@pytest.mark.parametrize("name", MODEL_NAMES)
def test_building_leaves_the_global_generator_alone(name: str) -> None:
    before = torch.get_rng_state()
    model = build(name)
    local_head(MAP, 6, seed=1)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(parameter.device.type == "cpu" for parameter in model.parameters())
    assert all(torch.isfinite(parameter).all() for parameter in model.parameters())
    assert all(module.training for module in model.modules())


def test_initial_weights_are_the_same_on_every_machine() -> None:
    """Golden bits: they change only with the rule itself, not with processor or torch version."""
    model = build_model("mlp", input_shape=(5,), outputs=3, seed=7, options={"widths": [4]})
    assert bits(model) == "23cb9d702a4c04b9"
    assert bits(local_head((5,), 3, seed=7)) == "4dcc648c406182ea"


def test_initial_weights_have_the_variance_of_their_rule() -> None:
    wide = build_model("mlp", input_shape=(400,), outputs=3, seed=0, options={"widths": [300]})
    weight, bias, scale = list(wide.parameters())[:3]
    assert weight.var().item() == pytest.approx(2 / 400, rel=0.02)
    assert abs(weight.mean().item()) < 1e-3
    assert weight.abs().max().item() <= (6 / 400) ** 0.5
    assert torch.equal(bias, torch.zeros(300))
    assert torch.equal(scale, torch.ones(300))  # of the LayerNorm


def test_equal_parts_of_one_network_start_unlike() -> None:
    model = build("vit", dim=8, heads=2, depth=2)
    assert bits(model[1]) != bits(model[2])


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("vggg", {}, "'vgg'"),
        ("resnet50", {}, "'resnet18'"),
        ("mlp", {"width": [3]}, "'widths'"),
        ("resnet18", {"widht": 3}, "'width'"),
        ("vit", {"head": 2}, "'heads'"),
    ],
)
def test_unknown_names_are_answered_with_the_nearest(
    name: str, options: dict[str, object], expected: str
) -> None:
    with pytest.raises(UsageError, match=f"Nearest: {expected}") as caught:
        build(name, **options)
    assert caught.value.exit_code == ExitCode.USAGE
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "options", "key"),
    [
        ("mlp", {"widths": 12}, "widths"),
        ("mlp", {"widths": [12, 0]}, "widths"),
        ("mlp", {"widths": [12.5]}, "widths"),
        ("mlp", {"stem": 12}, "stem"),
        ("mlp", {"dropout": 1.0}, "dropout"),
        ("mlp", {"dropout": "half"}, "dropout"),
        ("mlp", {"norm": 1}, "norm"),
        ("vgg", {"channels": []}, "channels"),
        ("vgg", {"channels": [8, "P"]}, "channels"),
        ("vgg", {"channels": ["M"]}, "channels"),
        ("vgg", {"channels": [8, "M", "M", "M", "M"]}, "channels"),
        ("vgg", {"channels": [True]}, "channels"),
        ("resnet18", {"width": -1}, "width"),
        ("vit", {"patch": 3}, "patch"),
        ("vit", {"heads": 5}, "heads"),
        ("vit", {"depth": 0}, "depth"),
        ("vit", {"mlp_ratio": 0}, "mlp_ratio"),
        ("vit", {"mlp_ratio": float("nan")}, "mlp_ratio"),
    ],
)
def test_bad_values_name_their_key(name: str, options: dict[str, object], key: str) -> None:
    with pytest.raises(UsageError) as caught:
        build(name, **options)
    assert caught.value.where == f"model.options.{key}"


@pytest.mark.parametrize("name", ["vgg", "resnet18", "vit"])
@pytest.mark.parametrize("shape", [(16,), (64, 32)])
def test_networks_on_maps_refuse_other_releases(name: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match=r"needs maps.*Use 'mlp'") as caught:
        build_model(name, input_shape=shape, outputs=6, seed=0, options={})
    assert str(list(shape)) in str(caught.value)


def test_options_shape_the_layers() -> None:
    def kinds(model: nn.Sequential) -> list[str]:
        return [type(layer).__name__ for layer in model]

    assert kinds(build("mlp", widths=[5], norm=False, dropout=0.1)) == [
        "Flatten",
        "Linear",
        "ReLU",
        "Dropout",
        "Linear",
    ]
    assert kinds(build("mlp", widths=[])) == ["Flatten", "Linear"]
    stemmed = build("mlp", stem=[4, 6], widths=[5], norm=False)
    assert kinds(stemmed) == ["Flatten", "Linear", "Linear", "Linear", "ReLU", "Linear"]
    assert [m.out_features for m in stemmed if isinstance(m, nn.Linear)][:3] == [4, 6, 5]
    convolution = ["Conv2d", "GroupNorm", "ReLU"]
    assert kinds(build("vgg", channels=[8, "M", 16])) == [
        *convolution,
        "MaxPool2x2",
        *convolution,
        "SpatialMean",
        "Linear",
    ]
    # Per stage: two convolutions and a pool, pools only while there is something to pool (8x8).
    assert kinds(build("vgg", channels=[8, 8, 8, 8])).count("MaxPool2x2") == 3
    assert kinds(build("resnet18", width=4)).count("BasicBlock") == 8


@pytest.mark.parametrize(
    ("shape", "inputs"), [((5,), 5), ((9, 5), 5), ((5, 4, 4), 5), ((5, 2, 3, 4), 5)]
)
def test_local_head_pools_positions_or_tokens(shape: tuple[int, ...], inputs: int) -> None:
    head = local_head(shape, 3, seed=2)
    rows = torch.randn(4, *shape)
    assert head(rows).shape == (4, 3)
    assert sum(parameter.numel() for parameter in head.parameters()) == 3 * inputs + 3
    # The order of positions (or tokens) does not matter to it.
    if len(shape) > 1:
        torch.testing.assert_close(head(rows.flip(1 if len(shape) == 2 else 2)), head(rows))
    assert bits(local_head(shape, 3, seed=2)) == bits(head) != bits(local_head(shape, 3, seed=3))


@pytest.mark.parametrize(
    ("shape", "outputs", "seed"), [((), 3, 0), ((0,), 3, 0), ((4,), 0, 0), ((4,), 3, -1)]
)
def test_impossible_calls_are_programming_errors(
    shape: tuple[int, ...], outputs: int, seed: int
) -> None:
    with pytest.raises(ValueError, match=r"no network|outside"):
        build_model("mlp", input_shape=shape, outputs=outputs, seed=seed, options={})
    with pytest.raises(ValueError, match=r"no head|outside"):
        local_head(shape, outputs, seed)
