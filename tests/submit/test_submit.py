"""`clicooper submit` against an `sbatch` that is only pretended."""

from __future__ import annotations

import json
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


OUTER = {
    "SLURM_JOB_ID": "17",
    "SLURM_CPU_BIND": "quiet,mask_cpu:0x1",
    "SLURM_MEM_PER_NODE": "2048",
    "SLURM_EXPORT_ENV": "NONE",
    "SLURMD_NODENAME": "n1",
    "SRUN_CPUS_PER_TASK": "1",
    "PMI_RANK": "0",
    "PMIX_RANK": "0",
}
OF_SITE = {
    "SLURM_CONF": "/etc/site/slurm.conf",
    "SLURM_MPI_TYPE": "pmix",
    "SBATCH_PARTITION": "debug",
    "PMIX_MCA_gds": "hash",
    "MY_SLURM_NOTE": "mine",
}


def test_submitting_from_inside_a_job_leaves_that_job_behind(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend_sbatch(project, out="1\n")
    text = (project / "bin" / "sbatch").read_text()
    noting = f'import json, os\njson.dump(dict(os.environ), open({str(project / "env")!r}, "w"))\n'
    (project / "bin" / "sbatch").write_text(text.replace("import sys\n", f"import sys\n{noting}"))
    for name, value in (OUTER | OF_SITE).items():
        monkeypatch.setenv(name, value)
    assert main(["submit", "job.toml"]) == 0
    seen = json.loads((project / "env").read_text())
    assert not OUTER.keys() & seen.keys()
    assert seen.items() >= OF_SITE.items()
    # On a login node nothing is taken away: what is set there was set on purpose.
    monkeypatch.delenv("SLURM_JOB_ID")
    assert main(["submit", "job.toml", "-o", "second"]) == 0
    assert json.loads((project / "env").read_text())["SLURM_CPU_BIND"] == OUTER["SLURM_CPU_BIND"]


@pytest.mark.parametrize(
    ("said", "number", "cluster"),
    [
        ("4711", "4711", None),
        ("4711;north\n", "4711", "north"),
        ("Site notice: 3 nodes down\n2026\nqueue open\n4711;north\n", "4711", "north"),
        ("welcome\r\n\x1b[1m*** hello ***\x1b[0m\r\n4711\r\n\r\n", "4711", None),
        ("4711\nhave a nice day\n", "4711", None),
        ("Submitted batch job 4711\n", "4711", None),
        ("hello\nSubmitted batch job 4711 on cluster north\n", "4711", "north"),
    ],
)
def test_the_number_is_found_among_what_a_wrapper_says(
    project: Path,
    capsys: pytest.CaptureFixture[str],
    said: str,
    number: str,
    cluster: str | None,
) -> None:
    pretend_sbatch(project, out=said)
    assert main(["submit", "job.toml", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["job_id"], told["cluster"]) == (number, cluster)
    # Nothing that was said is lost.
    rest = [line.strip() for line in said.splitlines() if line.strip() and number not in line]
    assert told["notes"] == rest


@pytest.mark.parametrize("said", ["", "0x12\n", "error 5\n", "12 34\n", "12;\n", "4711;a;b\n"])
def test_no_line_with_a_number_alone_is_no_number(
    project: Path, capsys: pytest.CaptureFixture[str], said: str
) -> None:
    pretend_sbatch(project, out=said)
    assert main(["submit", "job.toml"]) == 5
    assert "does not tell a job number" in capsys.readouterr().err


def test_links_keep_their_names_in_the_script(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (project / "store" / "disk7").mkdir(parents=True)
    (project / "store" / "v3.toml").write_text(JOB)
    (project / "current.toml").symlink_to("store/v3.toml")
    (project / "scratch").symlink_to("store/disk7")
    (project / "home").symlink_to(".")
    monkeypatch.chdir(project / "home")
    monkeypatch.setenv("PWD", str(project / "home"))
    assert main(["submit", "current.toml", "-o", "scratch/run", "--dry-run"]) == 0
    script = capsys.readouterr().out
    assert f"cd -- {project}/home\n" in script
    assert f"JOB={project}/home/current.toml\n" in script
    assert f"RUN={project}/home/scratch/run\n" in script
    assert f"{project}/home/scratch/run.slurm/" in script
    assert "disk7" not in script
    # The folder above a link is that of its target.
    assert main(["submit", "current.toml", "-o", "scratch/../run", "--dry-run"]) == 0
    assert f"RUN={project}/store/run\n" in capsys.readouterr().out
    # A PWD that some program left behind is of no use.
    monkeypatch.setenv("PWD", str(project / "store"))
    assert main(["submit", "current.toml", "--dry-run"]) == 0
    assert f"JOB={project}/current.toml\n" in capsys.readouterr().out


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
