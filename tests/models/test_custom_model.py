"""A network of the user's own, in a module beside the job file."""

from __future__ import annotations

import importlib
import itertools
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from clicooper_hpc.errors import UsageError
from clicooper_hpc.models.build_model import build_model
from clicooper_hpc.models.module_options import ModuleOptions

_numbers = itertools.count()

GOOD = """
from torch import nn
def build(*, input_shape, outputs, hidden=4):
    return nn.Sequential(nn.Linear(input_shape[0], hidden), nn.Tanh(), nn.Linear(hidden, outputs))
"""


def build(folder: Path, source: str, function: str = "build", **options: object) -> nn.Sequential:
    """Write ``source`` to a module with a fresh name and build its network."""
    name = f"own_network_{next(_numbers)}"
    (folder / f"{name}.py").write_text(source)
    return build_model(
        f"{name}:{function}",
        input_shape=(6,),
        outputs=3,
        seed=8,
        options=options,
        search_path=folder,
    )


BRANCHED = """
from torch import nn
import torch
class Net(nn.Module):
    def __init__(self, outputs):
        super().__init__()
        self.first, self.norm = nn.Linear(6, 8), nn.BatchNorm1d(8)
        self.second, self.third, self.last = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, outputs)
    def forward(self, rows):
        inner = torch.relu(self.norm(self.first(rows)))
        return self.last(inner + self.second(torch.tanh(self.third(inner))))
def build(*, input_shape, outputs): return Net(outputs)
"""


def test_a_module_is_traced_and_cut_where_the_job_says(tmp_path: Path) -> None:
    (tmp_path / "branched.py").write_text(BRANCHED)

    def made(**more: Any) -> nn.Sequential:
        return build_model(
            "branched:build",
            input_shape=(6,),
            outputs=3,
            seed=1,
            options={},
            search_path=tmp_path,
            choices=ModuleOptions(**more),
        )

    with pytest.raises(UsageError, match=r"BatchNorm1d.*batch_norm"):
        made()
    assert len(made(batch_norm="group-norm")) == 4
    model = made(batch_norm="group-norm", cuts="any")
    assert len(model) == 5
    assert model(torch.ones(2, 6)).shape == (2, 3)


@pytest.mark.parametrize("choice", [{"batch_norm": "group-norm"}, {"cuts": "any"}])
def test_choices_for_other_networks_are_refused_for_built_in_ones(choice: Any) -> None:
    with pytest.raises(UsageError, match="is for networks that are not built in"):
        build_model(
            "mlp", input_shape=(6,), outputs=3, seed=1, options={}, choices=ModuleOptions(**choice)
        )


@pytest.mark.parametrize("package", ["torchvision", "timm"])
def test_a_package_that_is_not_there_or_does_not_fit_is_one_line(package: str) -> None:
    try:
        importlib.import_module(package)
    except (ImportError, RuntimeError):
        with pytest.raises(UsageError, match=f"{package} cannot be imported") as caught:
            build_model(
                f"{package}:resnet18", input_shape=(3, 32, 32), outputs=3, seed=1, options={}
            )
        assert "\n" not in caught.value.line()
    else:
        with pytest.raises(UsageError, match="has no network 'resnet-eighteen'"):
            build_model(
                f"{package}:resnet-eighteen", input_shape=(3, 32, 32), outputs=3, seed=1, options={}
            )
        model = build_model(
            f"{package}:resnet18",
            input_shape=(3, 32, 32),
            outputs=3,
            seed=1,
            options={},
            choices=ModuleOptions("group-norm"),
        )
        assert len(model) > 8
        assert model(torch.ones(2, 3, 32, 32)).shape == (2, 3)


def network(layers: str) -> str:
    return f"from torch import nn\ndef build(*, input_shape, outputs): return {layers}\n"


def test_own_network_is_built_with_its_options(tmp_path: Path) -> None:
    path_before, state_before = list(sys.path), torch.get_rng_state()
    model = build(tmp_path, GOOD, hidden=5)
    again = build(tmp_path, GOOD, hidden=5)
    assert model(torch.ones(2, 6)).shape == (2, 3)
    assert all(map(torch.equal, model.parameters(), again.parameters()))
    assert model[0].out_features == 5
    assert sys.path == path_before
    assert torch.equal(torch.get_rng_state(), state_before)


def test_own_network_may_import_its_neighbours(tmp_path: Path) -> None:
    (tmp_path / "own_neighbour.py").write_text(GOOD)
    model = build(
        tmp_path,
        "def make(**all):\n    import own_neighbour\n    return own_neighbour.build(**all)\n",
        function="make",
    )
    assert len(model) == 3


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (network("None"), "returned a NoneType, not an nn.Module"),
        (network("nn.Sequential(nn.Linear(6, 4))"), r"gives \[4\] per sample, the job needs \[3\]"),
        (network("nn.Sequential(nn.Linear(5, 3))"), r"layer 0 \(Linear\).*fails on samples.*\[6\]"),
        (network("nn.Sequential(nn.BatchNorm1d(6), nn.Linear(6, 3))"), "layer 0 .*GroupNorm"),
        (
            network("1 / 0"),
            r"function fails: ZeroDivisionError: division by zero \(own_network.*:2",
        ),
        ("import no_such_package\n", "cannot be imported: ModuleNotFoundError.*no_such_package"),
        ("def build(:\n", "cannot be imported: SyntaxError"),
        ("raise RuntimeError('not today')\n", r"cannot be imported: RuntimeError: not today"),
        ("build = 3\n", "has no function 'build'"),
        ("pass\n", "has no function 'build'"),
    ],
)
def test_what_is_wrong_with_an_own_network_is_said_in_one_line(
    tmp_path: Path, source: str, expected: str
) -> None:
    with pytest.raises(UsageError, match=expected) as caught:
        build(tmp_path, source)
    assert "\n" not in str(caught.value)


def test_unknown_option_of_an_own_network(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"TypeError.*hiden"):
        build(tmp_path, GOOD, hiden=5)


def test_layers_that_mix_rows_are_found_by_trying(tmp_path: Path) -> None:
    source = """
import torch
from torch import nn
class Centre(nn.Module):
    def forward(self, x): return x - x.mean(0)
def build(*, input_shape, outputs):
    return nn.Sequential(nn.Linear(6, 6), nn.Dropout(0.5), Centre(), nn.Linear(6, outputs))
"""
    with pytest.raises(UsageError, match=r"layer 2 \(Centre\).*mixes the rows"):
        build(tmp_path, source)


@pytest.mark.parametrize("name", ["mynet:", ":build", "a:b:c", "no_such_module_here:build"])
def test_references_that_lead_nowhere(name: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"module:function|No module named 'no_such_module_here'"):
        build_model(name, input_shape=(6,), outputs=3, seed=8, options={}, search_path=tmp_path)


def test_without_a_job_folder_only_pythons_path_counts(tmp_path: Path) -> None:
    (tmp_path / "own_hidden.py").write_text(GOOD)
    with pytest.raises(UsageError, match="no job folder"):
        build_model("own_hidden:build", input_shape=(6,), outputs=3, seed=8, options={})
