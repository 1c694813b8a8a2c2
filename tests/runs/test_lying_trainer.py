"""A rank that sends numbers that are not finite is named at once, by the rank that got them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from mpirun import mpirun
from restarts import RESTART_JOB, check_same, resume
from start import train

from clicooper_hpc.runstore.reader import Run, open_run

pytestmark = pytest.mark.mpi

PROGRAM = Path(__file__).with_name("programs") / "lying_trainer.py"
RANKS = 4
#: Clipped, so that gradient norms travel.
JOB = RESTART_JOB.replace("batch_size = 16", "batch_size = 16\nclip_norm = 1.0")
STEP = 6


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The run in which nobody lies."""
    return train(tmp_path_factory.mktemp("whole"), RANKS, text=JOB)


def lied(
    folder: Path, rank: int, what: str, step: int, lie: str, *overrides: str
) -> subprocess.CompletedProcess[str]:
    (folder / "job.toml").write_text(JOB)
    words = ["run", str(folder / "job.toml"), "-o", str(folder / "run"), "-q"]
    words += [part for one in overrides for part in ("--set", one)]
    return mpirun(RANKS, [str(PROGRAM), str(rank), what, str(step), lie, "--", *words], cwd=folder)


def one_line(done: subprocess.CompletedProcess[str]) -> str:
    """Return the only line of ours; all ranks have ended with the code of a rank at fault."""
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("clicooper:")]
    assert len(lines) == 1, done.stderr
    return lines[0]


def test_the_rank_that_sent_nan_gradients_is_named_and_honest_ranks_resume(
    tmp_path: Path, whole: Run
) -> None:
    line = one_line(lied(tmp_path, 3, "GRADIENT", STEP, "nan"))
    start = f"clicooper: 2/{RANKS} trainer 2: message from rank 3 (backward): "
    due = f"rank 2 expected the gradient of step {STEP}, micro-batch 0"
    assert line.startswith(f"{start}{due}, but what came holds NaN.")
    assert line.endswith("else rank 3 is at fault")
    assert open_run(tmp_path / "run").status == "incomplete"
    done = resume(tmp_path, RANKS)
    assert done.returncode == 0, done.stderr
    check_same(open_run(tmp_path / "run"), whole)


@pytest.mark.parametrize("lie", ["nan", "inf"])
def test_measured_costs_that_cannot_be_end_the_start(tmp_path: Path, lie: str) -> None:
    line = one_line(lied(tmp_path, 2, "COSTS", 0, lie, 'pipeline.partition="auto"'))
    costs = "message from rank 2 (control): the measured costs say"
    assert line.startswith(f"clicooper: 0/{RANKS} owner: {costs} {float(lie):g} s for layer 1")
    assert line.endswith("else rank 2 is at fault")
