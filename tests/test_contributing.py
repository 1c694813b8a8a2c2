"""CONTRIBUTING.md: every file, folder and make target it names exists, and its arrows hold."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
SPANS = [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", PAGE)]
#: Made by commands, so not there in a fresh checkout.
MADE = {".venv", "RUN/private/", "../shared"}


def layers_of(text: str) -> list[set[str]]:
    return [{name.strip() for name in layer.split("|")} for layer in text.split(">")]


def test_every_make_target_it_names_exists() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, flags=re.MULTILINE))
    named = {span.removeprefix("make ") for span in SPANS if span.startswith("make ")}
    assert named
    assert named <= targets


def test_every_file_and_folder_it_names_exists() -> None:
    named = {
        word.removeprefix("PYTEST_ARGS=")
        for span in SPANS
        if ">" not in span
        for word in span.split()
        if "/" in word or re.search(r"\.(py|md|toml|txt)$", word)
    }
    assert named - MADE
    assert [name for name in sorted(named - MADE) if not (ROOT / name).exists()] == []


def test_packages_it_names_alone_exist() -> None:
    """`transport`, `runstore` and the like, where the text says what a package may do."""
    known = {path.parent.name for path in (ROOT / "clicooper_hpc").glob("*/__init__.py")}
    said = re.findall(r"[Oo]nly `(\w+)`(?: and `(\w+)`)? imports?\b", PAGE)
    assert said
    assert {name for pair in said for name in pair if name} <= known


def test_the_import_order_is_the_one_that_is_enforced() -> None:
    (arrows,) = (span for span in SPANS if span.count(">") > 3)
    table = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    rules = table["tool"]["importlinter"]["contracts"]
    (layers,) = (rule["layers"] for rule in rules if rule["type"] == "layers")
    enforced = [one for layer in layers for one in layers_of(layer) if one != {"__main__"}]
    assert layers_of(arrows) == enforced
