"""A trainer that reports an impossible exit code: all ranks end with 1, and resume later."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from mpirun import mpirun
from restarts import check_verified
from start import SMALL

from clicooper_hpc.errors import ExitCode
from clicooper_hpc.runstore.reader import open_run

pytestmark = pytest.mark.mpi

PROGRAM = Path(__file__).with_name("programs") / "lying_code.py"
RANKS = 3


def lied(folder: Path, when: str, code: int) -> subprocess.CompletedProcess[str]:
    (folder / "job.toml").write_text(SMALL + "[provenance]\nstages = 2\n")
    words = ["run", str(folder / "job.toml"), "-o", str(folder / "run"), "-q"]
    return mpirun(RANKS, [str(PROGRAM), when, str(code), str(folder), *words], cwd=folder)


def check_ends(folder: Path, done: subprocess.CompletedProcess[str], code: int) -> None:
    """Every rank has ended with 1, and one line names who said what."""
    ends = [int((folder / f"{rank}.code").read_text()) for rank in range(RANKS)]
    assert ends == [ExitCode.INTERNAL] * RANKS
    assert done.returncode == ExitCode.INTERNAL
    ours = [line for line in done.stderr.splitlines() if line.startswith("clicooper:")]
    seen = code - 2**32 if code >= 2**31 else code
    assert ours == [
        f"clicooper: 1/{RANKS} trainer 1: rank 1 reported a failure with the impossible exit code "
        rf"{seen}: all is\nwell\x1b[2J"
    ]
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "code", [0, *(pytest.param(code, marks=pytest.mark.matrix) for code in (75, 256, -1, 2**31))]
)
def test_a_run_that_has_not_begun_ends_on_all_ranks(tmp_path: Path, code: int) -> None:
    check_ends(tmp_path, lied(tmp_path, "begin", code), code)
    assert not (tmp_path / "run").exists()


@pytest.mark.matrix
@pytest.mark.parametrize("code", [75, 256])
def test_a_run_that_had_begun_ends_and_honest_ranks_resume_it(tmp_path: Path, code: int) -> None:
    check_ends(tmp_path, lied(tmp_path, "end", code), code)
    assert open_run(tmp_path / "run").status == "incomplete"
    words = ["-m", "clicooper_hpc", "resume", str(tmp_path / "run"), "-q"]
    resumed = mpirun(RANKS, words, cwd=tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    assert open_run(tmp_path / "run").status == "complete"
    check_verified(open_run(tmp_path / "run"))
