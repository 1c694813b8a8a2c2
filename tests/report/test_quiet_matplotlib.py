"""Figures say nothing of matplotlib's caches, also where the home folder cannot be written."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytest.importorskip("matplotlib", reason="needs the extra 'report'")


def said_by(code: str) -> str:
    unset = ("MPLCONFIGDIR", "XDG_CONFIG_HOME", "XDG_CACHE_HOME")
    env = {name: value for name, value in os.environ.items() if name not in unset}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**env, "HOME": "/proc/nowhere"},
        capture_output=True,
        text=True,
        check=True,
        timeout=240,
    )
    return done.stderr


def test_a_home_that_cannot_be_written_is_no_news() -> None:
    assert "created a temporary" in said_by("import matplotlib")
    code = (
        "from clicooper_hpc.report.figures.inline_svg import new_figure\n"
        "with new_figure(1, 1): pass\n"
        "import logging; print(logging.getLogger('matplotlib').level)"
    )
    assert said_by(code) == ""
