"""The file of one rank, away from its run: refused in one line by all that speak of a run."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import runstore_example as example

from clicooper_hpc.cli import main

COMMANDS = [
    ("verify",),
    ("verify", "--json"),
    ("inspect", "--json"),
    ("report", "-o", "page.html"),
    ("export", "--to", "csv", "-o", "out"),
    ("export", "--to", "one-file", "-o", "out.h5"),
    ("pack", "-o", "pack"),
    ("audit", "--quiet", "--stage", "0"),
    ("attack", "--quiet"),
    ("watch", "--once"),
]


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_the_file_of_a_rank_alone_is_no_run(
    words: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    run = example.finished_run(tmp_path / "run").path
    alone = tmp_path / "alone"
    alone.mkdir()
    shutil.copyfile(run / "rank-001.h5", alone / "copy.h5")
    monkeypatch.chdir(alone)
    command, *options = words
    assert main([command, "copy.h5", *options]) == 2
    out, err = capfd.readouterr()
    assert out == ""
    (line,) = (one for one in err.splitlines() if "loading" not in one)
    assert "copy.h5: is " in line
    assert "rank" in line
    assert [path.name for path in alone.iterdir()] == ["copy.h5"]


def test_its_own_figures_are_shown(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run = example.finished_run(tmp_path / "run").path
    shutil.copyfile(run / "rank-001.h5", tmp_path / "copy.h5")
    assert main(["inspect", str(tmp_path / "copy.h5")]) == 0
    assert "rank 1: " in capfd.readouterr().out
