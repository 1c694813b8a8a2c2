"""docs/models.md says what the code does."""

from __future__ import annotations

import json
import re
from dataclasses import MISSING, fields
from pathlib import Path

import pytest

from clicooper_hpc.models.build_model import MODEL_NAMES, build_model
from clicooper_hpc.models.layer_shapes import count_layer_parameters, layer_flops
from clicooper_hpc.models.mlp import MLPOptions
from clicooper_hpc.models.resnet11 import ResNet11Options
from clicooper_hpc.models.resnet18 import ResNet18Options
from clicooper_hpc.models.vgg import VGGOptions
from clicooper_hpc.models.vit import ViTOptions

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "models.md").read_text()
OPTIONS = {
    "mlp": MLPOptions,
    "vgg": VGGOptions,
    "resnet11": ResNet11Options,
    "resnet18": ResNet18Options,
    "vit": ViTOptions,
}


def section(title: str) -> str:
    return PAGE.split(f"### {title}\n", 1)[1].split("\n#", 1)[0]


@pytest.mark.parametrize("name", MODEL_NAMES)
def test_every_option_is_listed_with_its_default(name: str) -> None:
    listed = dict(re.findall(r"^\| `(\w+)` \| `(.+?)` \|", section(name), flags=re.MULTILINE))
    expected = {}
    for field in fields(OPTIONS[name]):
        assert field.default is not MISSING
        expected[field.name] = json.loads(json.dumps(field.default))
    assert {option: json.loads(text) for option, text in listed.items()} == expected


def test_the_sizes_are_those_of_the_networks() -> None:
    rows = re.findall(r"^\| `(\w+)` \| ([\dx]+) \| (\d+) \| ([\d,]+) \| ([\d.,]+) M \|", PAGE, re.M)
    assert {row[0] for row in rows} == set(MODEL_NAMES)
    for name, release, layers, parameters, operations in rows:
        shape = tuple(int(side) for side in release.split("x"))
        model = build_model(name, input_shape=shape, outputs=20, seed=0, options={})
        assert len(model) == int(layers), name
        assert count_layer_parameters(model) == int(parameters.replace(",", "")), name
        millions = float(operations.replace(",", ""))
        assert sum(layer_flops(model, shape)) / 1e6 == pytest.approx(millions, rel=0.01), name


def test_the_layer_numbers_are_right() -> None:
    def numbers(name: str, kind: str) -> list[int]:
        model = build_model(name, input_shape=(3, 32, 32), outputs=20, seed=0, options={})
        return [index for index, layer in enumerate(model) if type(layer).__name__ == kind]

    assert numbers("vgg", "MaxPool2x2") == [6, 13, 20]
    assert "the pools are 6, 13, 20" in section("vgg")
    assert numbers("resnet11", "ResidualLayers") == [7, 11, 15]
    assert "7, 11 and 15 `ResidualLayers`" in section("resnet11")
    assert numbers("resnet18", "BasicBlock") == list(range(3, 11))
    assert "3 to 10 `BasicBlock`" in section("resnet18")


def test_the_own_network_shown_works(tmp_path: Path) -> None:
    found = re.search(r"```python\n# mynet.py\n(.*?)```", PAGE, re.DOTALL)
    assert found is not None
    (tmp_path / "mynet.py").write_text(found[1])
    model = build_model(
        "mynet:build",
        input_shape=(4, 6, 6),
        outputs=5,
        seed=0,
        options={"hidden": 16},
        search_path=tmp_path,
    )
    assert len(model) == 7
