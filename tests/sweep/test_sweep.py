"""`clicooper sweep`: every combination is made, one that fails stops no other, nothing twice."""

from __future__ import annotations

import glob
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from tiny_job import TINY

import clicooper_hpc
from clicooper_hpc.cli import main
from clicooper_hpc.config.toml_text import format_toml_table
from clicooper_hpc.launch.run_start import RunStart
from clicooper_hpc.runstore.reader import Run, open_run
from clicooper_hpc.sweep import sweep_runs

BUDGET = {"privacy": {"budget_epsilon": 4.0, "budget_delta": 1e-5}}


@pytest.fixture
def job_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "tiny.toml"
    path.write_text(format_toml_table({**TINY, **BUDGET}, where="job"))
    return path


@pytest.mark.mpi
def test_runs_are_made_told_and_never_made_twice(
    job_file: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    command = ["sweep", str(job_file), "-o", "all", "-q", "--set"]
    # The first is more than the budget of the job: known once its front is there.
    assert main([*command, "privacy.epsilon=8,2"]) == 3
    out, err = capfd.readouterr()
    assert "to 10 per sample (replace-one)" in err
    assert "all: 2 runs, 1 failed, 1 complete" in out
    assert "epsilon-8: FAILED (exit code 3): 0/2 owner: training-release" in out
    assert "cost one sample (replace-one) epsilon 2, at delta 1e-05" in out
    assert "Choosing the best of several runs" in out
    assert os.listdir("all") == ["epsilon-2"]
    first = open_run("all/epsilon-2").attrs["run_id"]

    # What an earlier sweep into this folder has released counts too.
    shutil.copytree("all/epsilon-2", "all/earlier")
    assert main([*command, "privacy.epsilon=2", "--json"]) == 0
    out, err = capfd.readouterr()
    assert "run 1/1: epsilon-2: complete already" in err
    told = json.loads(out)
    assert [run["state"] for run in told["runs"]] == ["complete"]
    (privacy,) = told["privacy"]
    assert privacy["runs"] == ["earlier", "epsilon-2"]
    assert privacy["epsilon_added"] == pytest.approx(4.0)
    assert 2 < privacy["epsilon_composed"] < 4
    assert (privacy["unit"], privacy["relation"]) == ("sample", "replace-one")
    frame = pd.read_csv("all.csv")
    assert [*frame["privacy.epsilon"]] == [2]
    assert frame["clean_accuracy"].between(0, 1).all()
    # A run is a folder, and nothing else lies among them: FOLDER/* names runs.
    assert main(["report", *glob.glob("all/*")]) == 0
    # And `train` takes what is complete for what it is.
    made = clicooper_hpc.train(
        {**TINY, **BUDGET},
        output="all/epsilon-2",
        overrides={"privacy.epsilon": 2},
        resume=True,
        mpiexec="/bin/false",
    )
    assert made.attrs["run_id"] == first


def test_mistakes_are_told_before_a_run_starts(
    job_file: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def refused(*arguments: str, name: str = "all") -> str:
        assert main(["sweep", str(job_file), "-o", name, *arguments]) == 2
        return capfd.readouterr().err

    assert "privacy.epsilon" in refused("--set", "privacy.epsilon=2,-1")
    assert "are the same job" in refused("--set", "privacy.epsilon=2,2.0")
    assert "needs 2 ranks" in refused("--seeds", "2", "--ranks", "4")
    Path("mine.csv").write_text("a,b\n1,2\n")
    assert "no table of a sweep" in refused("--seeds", "2", name="mine")
    Path("run").mkdir()
    Path("run/run.h5").touch()
    assert "is a run, not a folder" in refused("--seeds", "2", name="run")
    assert "is a file" in refused("--seeds", "2", name="mine.csv")
    assert Path("mine.csv").read_text() == "a,b\n1,2\n"
    assert sorted(os.listdir()) == ["mine.csv", "run", "tiny.toml"]


def test_ctrl_c_ends_the_sweep_and_tells_how_far_it_came(
    job_file: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def interrupted(start: RunStart, say: Callable[[str], None]) -> Run:
        raise KeyboardInterrupt("stopped before anything left the owner")

    monkeypatch.setattr(sweep_runs, "start_run", interrupted)
    assert main(["sweep", str(job_file), "-o", "all", "--seeds", "2"]) == 130
    out, err = capfd.readouterr()
    assert "all: 2 runs, 2 not started" in out
    assert "the same command goes on" in err
