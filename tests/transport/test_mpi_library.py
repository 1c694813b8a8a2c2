"""Starting MPI: what launchers say, and what a user reads when nothing fits together."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from clicooper_hpc.errors import EnvironmentUnfitError
from clicooper_hpc.transport.launcher import launcher_local_rank, launcher_size
from clicooper_hpc.transport.mpi_library import check_mpi_world
from clicooper_hpc.transport.world import World

PROGRAMS = Path(__file__).parent / "programs"


@pytest.mark.parametrize(
    ("env", "size"),
    [
        ({}, None),
        ({"OMPI_COMM_WORLD_SIZE": "4"}, 4),
        ({"PMI_SIZE": "3"}, 3),
        ({"MV2_COMM_WORLD_SIZE": "2"}, 2),
        ({"PMI_SIZE": ""}, None),
        # srun
        ({"SLURM_PROCID": "1", "SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "5"}, 5),
        ({"SLURM_PROCID": "1", "SLURM_STEP_ID": "0", "SLURM_NTASKS": "5"}, 5),
        # a batch script and an allocation are no step
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "5"}, None),
        ({"SLURM_NTASKS": "5"}, None),
        # mpiexec that started one helper per node through srun
        (
            {
                "PMI_SIZE": "6",
                "SLURM_PROCID": "0",
                "SLURM_STEP_ID": "0",
                "SLURM_STEP_NUM_TASKS": "2",
            },
            6,
        ),
    ],
)
def test_launcher_size(env: dict[str, str], size: int | None) -> None:
    assert launcher_size(env) == size


STEP = {"SLURM_PROCID": "3", "SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "4"}


@pytest.mark.parametrize(
    ("env", "number"),
    [
        ({}, None),
        ({"OMPI_COMM_WORLD_LOCAL_RANK": "1"}, 1),
        ({"MPI_LOCALRANKID": "2", "PMI_SIZE": "4"}, 2),
        ({**STEP, "SLURM_LOCALID": "1"}, 1),
        # the ranks of mpiexec all inherit the helper's 0: it would put them on one device
        ({**STEP, "SLURM_LOCALID": "0", "PMI_SIZE": "4"}, None),
        ({"SLURM_PROCID": "0", "SLURM_LOCALID": "0"}, None),
    ],
)
def test_local_rank(env: dict[str, str], number: int | None) -> None:
    assert launcher_local_rank(env) == number


def fake_world(size: int) -> World:
    return cast(World, SimpleNamespace(size=size, library="MPICH 5.0.2"))


def test_lone_rank_under_a_launcher_of_several_is_refused() -> None:
    with pytest.raises(EnvironmentUnfitError) as caught:
        check_mpi_world(fake_world(1), {"OMPI_COMM_WORLD_SIZE": "4"})
    line = caught.value.line()
    assert "the launcher started 4 processes, but MPI (MPICH 5.0.2) sees 1" in line
    assert "Use the mpiexec of that MPI library" in line


@pytest.mark.parametrize(
    ("size", "env"),
    [(1, {}), (1, {"PMI_SIZE": "1"}), (4, {"PMI_SIZE": "4"}), (4, {})],
)
def test_fitting_worlds_pass(size: int, env: dict[str, str]) -> None:
    check_mpi_world(fake_world(size), env)


def python(*args: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *args],
        env={**os.environ, "OMP_NUM_THREADS": "1", **env},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_singletons_under_a_foreign_launcher_end_with_the_fix() -> None:
    done = python(str(PROGRAMS / "solo.py"), OMPI_COMM_WORLD_SIZE="4")
    assert done.returncode == 5
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("the launcher started 4 processes, but MPI (")


def test_without_an_mpi_library_the_line_says_what_to_install() -> None:
    done = python(str(PROGRAMS / "solo.py"), MPI4PY_LIBMPI="/nowhere/libmpi.so")
    assert done.returncode == 5
    (line,) = done.stderr.splitlines()
    assert line.startswith("no MPI library can be loaded")
    assert "pip install 'clicooper-hpc[mpich]'" in line


def test_one_process_without_a_launcher_is_a_world_of_one() -> None:
    done = python(str(PROGRAMS / "solo.py"))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == ["0", "1", "0"]


def test_importing_the_package_loads_no_mpi() -> None:
    code = (
        "import importlib, pkgutil, sys, clicooper_hpc.transport as t\n"
        "for module in pkgutil.iter_modules(t.__path__):\n"
        "    importlib.import_module(f'{t.__name__}.{module.name}')\n"
        "sys.exit('mpi4py' in sys.modules)"
    )
    assert python("-c", code).returncode == 0
