"""The Python on the data page runs as printed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parents[2] / "docs" / "data.md"


def test_snippets_run_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    snippets = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(snippets) == 3
    scope: dict[str, object] = {}
    for snippet in snippets:
        exec(snippet, scope)  # noqa: S102 - our own page
    assert "('cat', 'dog') 1000 clicooper/v1/split:" in capsys.readouterr().out
    assert getattr(scope["x"], "shape", None) == (3, 3, 32, 32)
