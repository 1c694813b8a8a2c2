"""Weights files: what a front reads, and what it says about a wrong one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from front_cases import LAYERS, SHAPE, description, random_rows, tensors, write

from clicooper_hpc.errors import DataError, UsageError
from clicooper_hpc.fronts.build_front import FrontBase, build_front
from clicooper_hpc.fronts.layer_spec import build_layers, parse_layers
from clicooper_hpc.fronts.weights import load_weights, parse_weights_description, save_weights

FRONTS = Path(__file__).resolve().parents[2] / "jobs" / "fronts"


def plain_torch(x: np.ndarray, cut: int | None = None) -> np.ndarray:
    """The same network by torch alone, statistics frozen."""
    network = build_layers(parse_layers(LAYERS, where="test"))
    network.load_state_dict(tensors())
    mean = torch.tensor([0.4, 0.6]).reshape(1, 2, 1, 1)
    std = torch.tensor([0.25, 0.5]).reshape(1, 2, 1, 1)
    y: torch.Tensor = network[:cut]((torch.from_numpy(x) - mean) / std)
    return y.numpy()


@pytest.mark.parametrize(("cut", "shape", "sure"), [(None, (5,), False), (3, (6, 8, 8), True)])
def test_a_front_computes_what_torch_computes(
    tmp_path: Path, cut: int | None, shape: tuple[int, ...], sure: bool
) -> None:
    path = write(tmp_path / "net.safetensors", description())
    front = build_front(FrontBase(kind="weights", input_shape=SHAPE, weights=path, cut=cut))
    x = random_rows(9)
    assert np.allclose(front.apply(x), plain_torch(x, cut), atol=1e-5)
    assert (front.output_shape, front.non_negative) == (shape, sure)
    assert front.normalisation == "frozen statistics"
    assert not front.origin.conditional
    assert front.origin.kind == "public-weights"


def test_non_negative_rows_are_non_negative(tmp_path: Path) -> None:
    path = write(tmp_path / "net.safetensors", description())
    front = build_front(
        FrontBase(kind="weights", input_shape=SHAPE, weights=path, cut=4), normalise=2.0
    )
    assert front.non_negative
    assert float(front.apply(random_rows(50)).min()) >= 0


@pytest.mark.parametrize("cut", [0, -1, 11, 99])
def test_a_cut_outside_the_network_is_refused_with_its_length(tmp_path: Path, cut: int) -> None:
    path = write(tmp_path / "net.safetensors", description())
    with pytest.raises(UsageError, match=rf"cut {cut} is not between 1 and 10"):
        load_weights(path, cut)


def test_a_flat_row_of_the_right_size_is_reshaped(tmp_path: Path) -> None:
    path = write(tmp_path / "net.safetensors", description())
    x = random_rows(3)
    flat = build_front(FrontBase(kind="weights", input_shape=(128,), weights=path))
    image = build_front(FrontBase(kind="weights", input_shape=SHAPE, weights=path))
    assert np.array_equal(flat.apply(x.reshape(3, -1)), image.apply(x))
    with pytest.raises(DataError, match=r"the front takes \(2, 8, 8\)"):
        build_front(FrontBase(kind="weights", input_shape=(127,), weights=path))


def test_without_a_word_on_its_training_a_file_is_conditional(tmp_path: Path) -> None:
    path = write(tmp_path / "net.safetensors", description(trained_on=None))
    origin = build_front(FrontBase(kind="weights", input_shape=SHAPE, weights=path)).origin
    assert origin.conditional
    assert origin.reason is not None
    assert "net.safetensors" in origin.reason


TOML = """
version = 1
input_shape = [2, 8, 8]
mean = [0.4, 0.6]
std = [0.25, 0.5]
trained_on = "nothing"
layers = [
  {type = "Conv2d", in_channels = 2, out_channels = 6, kernel_size = 3, padding = 1, bias = false},
  {type = "BatchNorm2d", num_features = 6}, {type = "ReLU"},
  {type = "MaxPool2d", kernel_size = 2, stride = 2},
  {type = "Conv2d", in_channels = 6, out_channels = 8, kernel_size = 3},
  {type = "GroupNorm", num_groups = 2, num_channels = 8}, {type = "GELU"},
  {type = "AdaptiveAvgPool2d", output_size = 1}, {type = "Flatten"},
  {type = "Linear", in_features = 8, out_features = 5},
]
"""


@pytest.mark.parametrize(
    ("name", "text"), [("a.toml", TOML), ("a.json", json.dumps(description()))]
)
def test_a_sidecar_describes_a_file_that_does_not(tmp_path: Path, name: str, text: str) -> None:
    path = write(tmp_path / "a.safetensors", None)
    with pytest.raises(DataError, match=r"does not say what network.*a\.json or a\.toml"):
        load_weights(path, None)
    (tmp_path / name).write_text(text)
    inside = write(tmp_path / "b.safetensors", description())
    fronts = [
        build_front(FrontBase(kind="weights", input_shape=SHAPE, weights=place))
        for place in (path, inside)
    ]
    assert fronts[0].digest == fronts[1].digest


def _without(name: str) -> dict[str, torch.Tensor]:
    state = tensors()
    del state[name]
    return state


def _with(name: str, tensor: torch.Tensor) -> dict[str, torch.Tensor]:
    return {**tensors(), name: tensor}


@pytest.mark.parametrize(
    ("state", "says"),
    [
        (lambda: _without("4.bias"), r"'4\.bias' of shape \(8,\) is missing"),
        (
            lambda: _with("0.weight", torch.zeros(6, 3, 3, 3)),
            r"'0\.weight' is F32 \(6, 3, 3, 3\), expected F32 \(6, 2, 3, 3\)",
        ),
        (lambda: _with("9.bias", torch.zeros(5).double()), r"'9\.bias' is F64.*expected F32"),
        (lambda: _with("12.bias", torch.zeros(5)), r"'12\.bias' belongs to no layer"),
        (lambda: _with("9.bias", torch.full((5,), torch.nan)), r"'9\.bias'.*not finite"),
        (lambda: _with("1.running_var", -torch.ones(6)), r"'1\.running_var'.*negative variance"),
    ],
)
def test_wrong_tensors_are_named_with_their_shapes(
    tmp_path: Path, state: Callable[[], dict[str, torch.Tensor]], says: str
) -> None:
    path = write(tmp_path / "net.safetensors", description(), state())
    with pytest.raises(DataError, match=says) as caught:
        load_weights(path, 3)
    assert "net.safetensors" in caught.value.line()


def test_missing_and_damaged_files_are_errors_of_the_user(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such weights file"):
        load_weights(tmp_path / "none.safetensors", None)
    path = write(tmp_path / "net.safetensors", description())
    whole = path.read_bytes()
    for damaged in (b"", b"\xff" * 100, whole[:50], whole[:-7]):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=r"not a readable safetensors file"):
            load_weights(path, None)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"mean": None}, "'mean' is missing"),
        ({"mean": [0.1, 0.2, 0.3]}, "'mean' must be 1 or 2"),
        ({"mean": ["0.1"]}, "'mean' must be"),
        ({"std": [0.0]}, "'std' must be 1 or 2 positive"),
        ({"input_shape": [2, 8]}, "'input_shape' must be"),
        ({"input_shape": [2, 8, True]}, "'input_shape' must be"),
        ({"input_shape": [3, 8, 8], "mean": [0.5], "std": [1]}, "layer 0"),
        ({"version": 2}, "version 2"),
        ({"trained_on": 5}, "'trained_on' must be a text"),
        ({"weights": 1}, "unknown key 'weights'"),
    ],
)
def test_a_wrong_description_is_refused(
    tmp_path: Path, changes: dict[str, object], says: str
) -> None:
    path = write(tmp_path / "net.safetensors", description(**changes))
    with pytest.raises(DataError, match=says):
        load_weights(path, None)


def test_a_sidecar_that_is_no_json_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.safetensors", None)
    for text in ("{", "[" * 100_000, "[]"):
        (tmp_path / "a.json").write_text(text)
        with pytest.raises(DataError, match=r"a\.json"):
            load_weights(path, None)


def test_saved_weights_load_again(tmp_path: Path) -> None:
    given = parse_weights_description(description(), where="test")
    state = {k: v for k, v in tensors().items() if not k.endswith("num_batches_tracked")}
    save_weights(tmp_path / "net.safetensors", given, state)
    loaded = load_weights(tmp_path / "net.safetensors", None)
    assert loaded.network.layers == given.layers
    assert loaded.trained_on == "nothing"
    with pytest.raises(ValueError, match="not those of the layers"):
        save_weights(tmp_path / "x.safetensors", given, {})


@pytest.mark.parametrize(
    ("name", "shape", "features"),
    [
        ("cifar100-conv64", (3, 32, 32), 64),
        ("cifar10-conv64", (3, 32, 32), 64),
        ("glyphs-conv24", (1, 8, 8), 24),
    ],
)
def test_the_fronts_that_come_with_the_jobs_load(
    name: str, shape: tuple[int, ...], features: int
) -> None:
    path = FRONTS / f"{name}.safetensors"
    front = build_front(FrontBase(kind="weights", input_shape=shape, weights=path), block_rows=4)
    assert front.output_shape == (features,)
    assert not front.origin.conditional


@pytest.mark.shared
def test_the_cifar_front_holds_the_shared_weights(shared_dir: Path) -> None:
    from safetensors.torch import load_file

    original = load_file(shared_dir / "fronts" / "cifar100-conv64.safetensors")
    shipped = load_file(FRONTS / "cifar100-conv64.safetensors")
    assert shipped.keys() == original.keys()
    assert all(torch.equal(shipped[name], original[name]) for name in original)
