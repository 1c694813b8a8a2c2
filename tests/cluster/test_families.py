"""The other MPI family: Debian's Open MPI with parallel HDF5, in an environment of its own.

`make test-cluster` builds the environment with tests/cluster/openmpi-environment.
"""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest
from cluster_jobs import JOB, LONG, assert_readable, setup_in, submit, until_training
from mpirun import mpirun
from slurm_cluster import SlurmCluster, until

from clicooper_hpc.runstore.reader import open_run

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

#: Slurm believes in eight cores a node: without it ranks that wait keep the others from computing.
YIELD = "export OMPI_MCA_mpi_yield_when_idle=1"
AS_ROOT = "export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1"


@pytest.fixture(scope="module")
def openmpi() -> Path:
    """The environment with Open MPI and an h5py built for it."""
    if os.environ.get("CLICOOPER_CLUSTER") != "1":
        pytest.skip("make test-cluster (CLICOOPER_CLUSTER=1) makes the Open MPI environment")
    place = Path(__file__).parents[2] / ".venv-openmpi"
    look = "import h5py; from mpi4py import MPI; print(h5py.get_config().mpi, MPI.get_vendor())"
    told = subprocess.run(
        [place / "bin" / "python", "-c", look],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert told.stdout.startswith("True ('Open MPI'"), told.stdout
    return place


def test_one_file_by_open_mpi_is_the_model_of_shards_by_mpich(
    slurm: SlurmCluster, openmpi: Path, tmp_path: Path
) -> None:
    settings = (
        "privacy.mode=reproducible-INSECURE",
        "provenance.marks=off",  # their keys are every run's own
        "pipeline.segments=2",
        "training.epochs=2",
    )
    job = submit(
        slurm,
        tmp_path,
        *settings,
        "output.layout=single",
        "slurm.nodes=2",
        launch="slurm.mpi=pmix",
        setup=setup_in(openmpi, YIELD),
        name="single",
    )
    words = [word for setting in settings for word in ("--set", setting)]
    run = ["-m", "clicooper_hpc", "run", str(JOB), "-o", str(tmp_path / "shards"), *words]
    done = mpirun(3, run, timeout_s=400)
    assert done.returncode == 0, done.stderr
    slurm.wait(job, "COMPLETED")
    single, shards = open_run(tmp_path / "single"), open_run(tmp_path / "shards")
    assert (single.attrs["layout"], shards.attrs["layout"]) == ("single", "shards")
    assert single.attrs["mpi_library"] != shards.attrs["mpi_library"]
    files = sorted((tmp_path / "shards" / "delivery").iterdir())
    assert len(files) == 2
    for file in files:
        assert file.read_bytes() == (tmp_path / "single" / "delivery" / file.name).read_bytes()
    told = slurm.call("clicooper", "verify", "single", cwd=tmp_path).stdout
    assert "verified: every check that applies passed" in told


def test_mpirun_ends_the_job_of_a_killed_rank(
    slurm: SlurmCluster, openmpi: Path, tmp_path: Path
) -> None:
    job = submit(
        slurm,
        tmp_path,
        LONG,
        "output.layout=single",
        launch="slurm.launcher=mpirun",
        setup=setup_in(openmpi, YIELD, AS_ROOT),
    )
    until_training(slurm, job, tmp_path / "run")
    slurm.rank(job, 1).send_signal(signal.SIGKILL)
    assert slurm.wait(job, "FAILED")["ExitCode"] == "137:0"
    until("every process of the job is gone", lambda: not slurm.processes(job))
    assert_readable(tmp_path / "run")
