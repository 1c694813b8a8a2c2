"""`clicooper submit` against an `sbatch` that is only pretended."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from clicooper_hpc.cli import main

JOB = '[data]\npath = "digits"\n[pipeline]\nsegments = 3\n[slurm]\ntime_min = 7\n'


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in a folder with a job file, on a machine without Slurm."""
    (tmp_path / "job.toml").write_text(JOB)
    (tmp_path / "bin").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/nowhere")
    return tmp_path


def pretend_sbatch(project: Path, *, out: str = "", err: str = "", code: int = 0) -> None:
    text = f"""#!{sys.executable}
import sys
open({str(project / "seen")!r}, "w").write("\\n".join(sys.argv[1:]))
sys.stdout.write({out!r})
sys.stderr.write({err!r})
sys.exit({code})
"""
    (project / "bin" / "sbatch").write_text(text)
    (project / "bin" / "sbatch").chmod(0o755)


def test_dry_run_shows_the_script_and_does_nothing(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pretend_sbatch(project, out="1")
    before = sorted(project.rglob("*"))
    assert main(["submit", "job.toml", "--dry-run", "--set", "slurm.time_min=99"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("#!/bin/bash\n")
    assert "#SBATCH --time=99 " in out
    assert f"RUN={project}/runs/job\n" in out
    assert sorted(project.rglob("*")) == before


def test_submitting_writes_the_script_beside_the_run_and_says_how_to_go_on(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["submit", "job.toml", "-o", "out/mine", "--dry-run"]) == 0
    shown = capsys.readouterr().out
    pretend_sbatch(project, out="4711\n", err="sbatch: lua: be nice\n")
    assert main(["submit", "job.toml", "-o", "out/mine"]) == 0
    script = project / "out" / "mine.slurm" / "job.sbatch"
    assert script.read_text() == shown
    assert (project / "seen").read_text().split("\n") == ["--parsable", str(script)]
    assert not (project / "out" / "mine").exists()
    out = capsys.readouterr().out
    for part in (
        "be nice",
        "submitted job 4711",
        "squeue --jobs=4711",
        f"tail -F {project}/out/mine.slurm/4711.out",
        "scancel 4711",
        f"clicooper inspect {project}/out/mine",
    ):
        assert part in out


def test_an_array_on_a_named_cluster(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pretend_sbatch(project, out="12;north\n")
    assert main(["submit", "job.toml", "--set", "slurm.seeds=[0, 5]"]) == 0
    out = capsys.readouterr().out
    assert "squeue --clusters=north --jobs=12" in out
    assert "scancel --clusters=north 12" in out
    assert f"{project}/runs/job.slurm/12_*.out" in out
    assert f"inspect {project}/runs/job-seed-0 --beside {project}/runs/job-seed-5" in out


def test_without_sbatch_nothing_is_written(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["submit", "job.toml"]) == 5
    error = capsys.readouterr().err
    assert "there is no sbatch on the PATH" in error
    assert "--dry-run" in error
    assert not (project / "runs").exists()


def test_what_sbatch_objects_to_is_passed_on_and_can_be_tried_again(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pretend_sbatch(project, err="sbatch: error: invalid partition specified: x\n", code=1)
    assert main(["submit", "job.toml"]) == 5
    assert "invalid partition specified: x" in capsys.readouterr().err
    assert not (project / "runs" / "job.slurm").exists()
    pretend_sbatch(project, out="2\n")
    assert main(["submit", "job.toml"]) == 0


def test_a_broken_sbatch_is_named(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "bin" / "sbatch").write_text("#!/no/such/interpreter\n")
    (project / "bin" / "sbatch").chmod(0o755)
    assert main(["submit", "job.toml"]) == 5
    assert "cannot be started" in capsys.readouterr().err
    assert not (project / "runs" / "job.slurm").exists()


def test_an_answer_without_a_number_is_not_taken_for_success(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pretend_sbatch(project, out="welcome to the cluster\n")
    assert main(["submit", "job.toml"]) == 5
    assert "does not tell a job number" in capsys.readouterr().err
    # It may be in the queue: a second one must not run into it.
    assert (project / "runs" / "job.slurm" / "job.sbatch").exists()


def test_a_run_is_submitted_once(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pretend_sbatch(project, out="1\n")
    assert main(["submit", "job.toml"]) == 0
    assert main(["submit", "job.toml"]) == 2
    assert "submitted already" in capsys.readouterr().err


@pytest.mark.parametrize(("setting", "name"), [("slurm.nodes=1", "job"), ("slurm.seeds=[4]", "4")])
def test_a_run_that_is_there_is_never_submitted_again(
    project: Path, capsys: pytest.CaptureFixture[str], setting: str, name: str
) -> None:
    pretend_sbatch(project, out="1\n")
    folder = project / "runs" / ("job" if name == "job" else f"job-seed-{name}")
    folder.mkdir(parents=True)
    (folder / "run.h5").touch()
    assert main(["submit", "job.toml", "--set", setting]) == 2
    assert "never overwritten" in capsys.readouterr().err
    assert not (project / "seen").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_is_named(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pretend_sbatch(project, out="1\n")
    (project / "locked").mkdir(mode=0o500)
    assert main(["submit", "job.toml", "-o", "locked/run"]) == 5
    assert "cannot be written" in capsys.readouterr().err


def test_a_file_in_the_way_of_the_folder_is_named(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pretend_sbatch(project, out="1\n")
    (project / "file").touch()
    assert main(["submit", "job.toml", "-o", "file/run"]) == 5
    assert "the script cannot be written" in capsys.readouterr().err


@pytest.mark.parametrize("line", ["echo 'open", "if true; then", "cat <<EOF"])
def test_shell_that_is_left_open_is_found_at_once(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    monkeypatch.setenv("PATH", f"{project / 'bin'}:{os.defpath}")
    pretend_sbatch(project, out="1\n")
    (project / "job.toml").write_text(JOB + f'setup = ["{line}"]\n')
    assert main(["submit", "job.toml"]) == 2
    assert "slurm.setup" in capsys.readouterr().err
    assert not (project / "seen").exists()


def test_a_mistake_in_the_section_is_told_with_its_place(
    capsys: pytest.CaptureFixture[str], project: Path
) -> None:
    (project / "job.toml").write_text(JOB + 'partition = "a b"\n')
    assert main(["submit", "job.toml", "--dry-run"]) == 2
    error = capsys.readouterr().err
    assert "job.toml:7" in error
    assert "slurm.partition" in error
