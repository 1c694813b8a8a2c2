"""`clicooper doctor` as a user starts it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from mpirun import mpirun

DOCTOR = ["-m", "clicooper_hpc", "doctor"]


def alone(*options: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *DOCTOR, *options],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "OMP_NUM_THREADS": "1", **env},
        check=False,
    )


def levels(output: str) -> dict[str, str]:
    """Level of every check; of several the last."""
    return {finding["check"]: finding["level"] for finding in json.loads(output)["findings"]}


def finding(output: str, check: str) -> dict[str, Any]:
    found: list[dict[str, Any]] = json.loads(output)["findings"]
    return next(one for one in found if one["check"] == check)


def test_one_process_on_a_good_machine(tmp_path: Path) -> None:
    done = alone("-o", str(tmp_path / "runs" / "first"))
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0].startswith("ok       mpi ")
    assert "libmpi" in lines[0]
    # A long path is broken over lines.
    assert f"folder {tmp_path} (" in " ".join(done.stdout.split())
    assert "0 bad" in lines[-1]
    assert list(tmp_path.iterdir()) == []


def test_a_launcher_that_the_library_does_not_know_is_bad_and_told_once() -> None:
    first = alone("--json", OMPI_COMM_WORLD_SIZE="4", OMPI_COMM_WORLD_RANK="0")
    assert first.returncode == 5
    found = finding(first.stdout, "launcher")
    assert found["level"] == "bad"
    assert "the launcher started 4 processes, but MPI" in found["text"]
    assert found["remedy"]
    assert levels(first.stdout)["folder"] != "bad"
    other = alone(OMPI_COMM_WORLD_SIZE="4", OMPI_COMM_WORLD_RANK="3")
    # With exit code 5 it could make the launcher end rank 0 before that has told.
    assert (other.returncode, other.stdout, other.stderr) == (0, "", "")


def test_without_an_mpi_library_every_rank_says_so() -> None:
    done = alone(MPI4PY_LIBMPI="/nowhere/libmpi.so")
    assert done.returncode == 5
    assert "no MPI library can be loaded" in done.stdout
    assert "->" in done.stdout
    other = alone(MPI4PY_LIBMPI="/nowhere/libmpi.so", PMI_SIZE="2", PMI_RANK="1")
    assert other.returncode == 5
    assert other.stderr.startswith("clicooper: rank 1: no MPI library can be loaded")


def test_a_folder_that_cannot_be_written_is_bad() -> None:
    done = alone("--json", "-o", "/proc")
    assert done.returncode == 5
    assert levels(done.stdout)["folder"] == "bad"
    assert finding(done.stdout, "hdf5")["level"] == "ok"


@pytest.mark.mpi
def test_several_ranks_are_told_once_by_rank_0(tmp_path: Path) -> None:
    done = mpirun(3, [*DOCTOR, "--json", "-o", str(tmp_path)])
    assert (done.returncode, done.stderr) == (0, "")
    content = json.loads(done.stdout)
    assert sorted(content) == ["clicooper", "exit_code", "findings", "hosts"]
    assert len(content["hosts"]) == 3
    assert content["exit_code"] == 0
    for found in content["findings"]:
        assert sorted(found) == ["check", "level", "ranks", "remedy", "text"]
        assert found["ranks"] == [0, 1, 2]
    checks = levels(done.stdout)
    for check in ("mpi", "launcher", "packages", "shared", "clocks", "messages", "rights", "hdf5"):
        assert checks[check] == "ok", check
    assert list(tmp_path.iterdir()) == []


@pytest.mark.mpi
def test_all_ranks_end_with_the_exit_code_of_a_bad_folder() -> None:
    done = mpirun(2, [*DOCTOR, "-o", "/proc"])
    assert done.returncode == 5
    assert done.stdout.count("cannot hold a run") == 1
    assert done.stdout.rstrip().endswith("a run would fail")


@pytest.mark.mpi
def test_threads_that_fight_for_cores_are_a_warning_with_numbers(tmp_path: Path) -> None:
    done = mpirun(2, [*DOCTOR, "--json", "-o", str(tmp_path)], env={"OMP_NUM_THREADS": "512"})
    assert done.returncode == 0
    found = finding(done.stdout, "threads")
    assert found["level"] == "warning"
    assert "1024 threads on" in found["text"]
    assert "OMP_NUM_THREADS=" in found["remedy"]
