"""Start real MPI ranks for a test, and never leave one behind."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

__all__ = ["finish", "launch", "mpirun"]

#: Open MPI refuses root, and more ranks than cores, unless told otherwise; other MPIs ignore this.
_OPEN_MPI = {
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "OMPI_MCA_rmaps_base_oversubscribe": "1",
    "OMPI_MCA_mpi_yield_when_idle": "1",
}


def _launcher() -> str:
    beside = Path(sys.executable).with_name("mpiexec")
    found = str(beside) if beside.exists() else shutil.which("mpiexec")
    if found is None:
        pytest.skip("no mpiexec: install the extra 'mpich' or load the site's MPI")
    return found


def mpirun(
    n: int,
    args: Sequence[str],
    *,
    timeout_s: float = 120.0,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run ``python *args`` on ``n`` ranks; kill the whole process group after ``timeout_s``."""
    return finish(launch(n, args, env=env, cwd=cwd), timeout_s=timeout_s)


def launch(
    n: int, args: Sequence[str], *, env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> subprocess.Popen[str]:
    """Start ``python *args`` on ``n`` ranks; hand what it returns, the launcher, to `finish`."""
    return subprocess.Popen(
        [_launcher(), "-n", str(n), sys.executable, *args],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=cwd,
        start_new_session=True,
        env={
            **_OPEN_MPI,
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "PYTHONUNBUFFERED": "1",
            **(env or {}),
        },
    )


def finish(
    launcher: subprocess.Popen[str], *, timeout_s: float = 120.0
) -> subprocess.CompletedProcess[str]:
    """Wait for the ranks; kill the whole process group after ``timeout_s``."""
    with launcher as process:
        try:
            out, err = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            out, err = process.communicate()
            pytest.fail(f"ranks still ran after {timeout_s} s\n{out[-2000:]}\n{err[-4000:]}")
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)
