"""bench/README.md names every script, and every script says in its head how it is started."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

BENCH = Path(__file__).resolve().parents[2] / "bench"
FILES = sorted(BENCH.glob("*.py"))
SCRIPTS = [path for path in FILES if '__name__ == "__main__"' in path.read_text("utf-8")]


def test_the_page_names_every_file_and_no_other() -> None:
    page = (BENCH / "README.md").read_text(encoding="utf-8")
    named = set(re.findall(r"(?:bench/|`)(\w+\.py)", page))
    assert named == {path.name for path in FILES}


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_script_says_how_it_is_started_from_the_root(script: Path) -> None:
    head = ast.get_docstring(ast.parse(script.read_text(encoding="utf-8"))) or ""
    assert f"python bench/{script.name}" in head
