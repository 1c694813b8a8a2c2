"""The check of a declared preprocessing: the right one wins, and a wrong declaration is found."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from clicooper_hpc.cli import main
from clicooper_hpc.data.importers.import_dataset import import_dataset
from clicooper_hpc.fronts import published_weights
from clicooper_hpc.fronts.published_weights import PUBLISHED, Preprocessing
from clicooper_hpc.fronts.weights import parse_weights_description, save_weights

#: In the middle of ReLU6, and far above it, where the channel that tells classes apart is 6.
RIGHT = Preprocessing("the right one", (0.5,), (0.1,))
WRONG = Preprocessing("the wrong one", (-4.0, 0.5, 0.5), (0.1,))
LAYERS = [
    {"type": "Conv2d", "in_channels": 3, "out_channels": 3, "kernel_size": 1, "bias": False},
    {"type": "ReLU6"},
    {"type": "AdaptiveAvgPool2d", "output_size": 1},
    {"type": "Flatten"},
]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a front, and images whose first channel alone tells their class."""
    folder = tmp_path_factory.mktemp("check")
    rng = np.random.default_rng(0)
    arrays: dict[str, Any] = {}
    for split, count in (("train", 300), ("test", 200)):
        y = rng.integers(0, 2, count)
        x = rng.uniform(0.4, 1.0, (count, 4, 4, 3))
        x[..., 0] = 0.6 + 0.2 * y[:, np.newaxis, np.newaxis] + rng.normal(0, 0.02, (count, 4, 4))
        arrays[f"x_{split}"], arrays[f"y_{split}"] = x.astype(np.float32), y
    np.savez(folder / "set.npz", **arrays)
    import_dataset("npz", folder / "set.npz", folder / "set.h5")
    content = {"input_shape": [3, 8, 8], "layers": LAYERS, "mean": [0.0], "std": [1.0]}
    description = parse_weights_description(content, where="test")
    weight = torch.eye(3).reshape(3, 3, 1, 1)
    save_weights(folder / "net.safetensors", description, {"0.weight": weight})
    return folder


def check(place: Path, declared: Preprocessing, other: Preprocessing) -> int:
    """Check the front under the name of a published network that declares ``declared``."""
    made = replace(PUBLISHED["efficientnet-lite0"], preprocessing=declared, alternatives=(other,))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(published_weights, "PUBLISHED", {"net": made})
        arguments = ["--check", str(place / "set.h5"), "--side", "8"]
        return main(["front", "import", "net", "-o", str(place / "net.safetensors"), *arguments])


def test_the_right_preprocessing_wins(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(place, RIGHT, WRONG) == 0
    out = capsys.readouterr().out
    assert "the declared one wins over the wrong one by" in out
    assert "mean 0.5, deviation 0.1: 100.0 %" in out


def test_a_wrong_declaration_is_found_out(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(place, WRONG, RIGHT) == 4
    assert "WRONG: the right one wins over the declared one by" in capsys.readouterr().out


def test_chance_is_not_taken_for_a_difference(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    near = Preprocessing("a near one", (0.5001,), (0.1,))
    assert check(place, RIGHT, near) == 0
    assert "no difference to a near one beyond chance" in capsys.readouterr().out


def test_a_data_set_without_images_to_compare_is_refused(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(published_weights, "PUBLISHED", {"net": PUBLISHED["efficientnet-lite0"]})
        name = str(place / "net.safetensors")
        options = ["--check", str(place / "set.h5"), "--rows"]
        assert main(["front", "import", "net", "-o", name, *options, "3"]) == 2
        assert "too few labelled images" in capsys.readouterr().err
        assert main(["front", "import", "net", "-o", name, *options, "0"]) == 2
        assert "--rows" in capsys.readouterr().err
        assert main(["front", "import", "net", "-o", name, *options, "9", "--side", "0"]) == 2
        assert "--side" in capsys.readouterr().err
