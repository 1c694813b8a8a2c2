"""Rules on the package's structure that hold by test, with the functions of bench/structure.py."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from structure import (
    MOST_PARAMETERS,
    Module,
    doubled_classes,
    functions_of,
    import_circles,
    parameters_of,
    read_modules,
)

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "clicooper_hpc"
MOST_BYTES = 15_000
MOST_IMPORTS = 20
MOST_WIDE_FUNCTIONS = 5


@pytest.fixture(scope="module")
def modules() -> dict[str, Module]:
    return read_modules(ROOT)


def test_no_public_class_name_stands_in_two_packages(modules: dict[str, Module]) -> None:
    assert doubled_classes(modules) == []


def test_modules_do_not_import_each_other_in_circles(modules: dict[str, Module]) -> None:
    assert import_circles(modules) == []


def test_no_file_is_above_15_kb(modules: dict[str, Module]) -> None:
    sizes = {name: len(module.text.encode()) for name, module in modules.items()}
    assert {name: size for name, size in sizes.items() if size > MOST_BYTES} == {}


def test_no_module_imports_more_than_20_of_the_package(modules: dict[str, Module]) -> None:
    counts = {name: len(module.imports) for name, module in modules.items()}
    assert {name: count for name, count in counts.items() if count > MOST_IMPORTS} == {}


def test_hardly_a_function_has_more_than_7_parameters(modules: dict[str, Module]) -> None:
    wide = [
        f"{module.name}.{name}"
        for module in modules.values()
        for name, node in functions_of(module)
        if parameters_of(node) > MOST_PARAMETERS
    ]
    assert len(wide) <= MOST_WIDE_FUNCTIONS, wide


def contracts() -> dict[str, dict[str, list[str]]]:
    table = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return {one["name"]: one for one in table["tool"]["importlinter"]["contracts"]}


def top_names() -> set[str]:
    """Return packages and modules directly in the package."""
    folders = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    return folders | {path.stem for path in PACKAGE.glob("*.py")} - {"__init__"}


@pytest.mark.parametrize(
    ("contract", "library", "free"),
    [
        ("Only transport imports mpi4py", "mpi4py", {"transport"}),
        ("Only runstore and data import h5py", "h5py", {"runstore", "data"}),
    ],
)
def test_a_contract_on_a_library_names_every_other_package(
    contract: str, library: str, free: set[str]
) -> None:
    rule = contracts()[contract]
    assert rule["forbidden_modules"] == [library]
    held = {name.removeprefix("clicooper_hpc.") for name in rule["source_modules"]}
    assert held == top_names() - free


def test_the_layers_name_every_package_once() -> None:
    (layers,) = (rule["layers"] for rule in contracts().values() if "layers" in rule)
    names = [name.strip() for layer in layers for name in layer.split("|")]
    assert len(names) == len(set(names))
    assert set(names) == top_names()
