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


def many(*case: object) -> object:
    """Mark one of many like cells."""
    return pytest.param(*case, marks=pytest.mark.matrix)


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


@pytest.mark.matrix
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


@pytest.mark.parametrize(
    ("rank", "what", "step", "lie", "by", "said"),
    [
        many(
            1,
            "ACTIVATION",
            6,
            "nan",
            2,
            "activation of step 8, micro-batch 0, but what came holds NaN",
        ),
        many(1, "ACTIVATION", 6, "row", 2, "has shape [5, 16] instead of [6, 16]"),
        many(2, "ACTIVATION", 6, "bfloat16", 3, "holds torch.bfloat16 instead of torch.float32"),
        many(
            2,
            "NORM",
            6,
            "inf",
            3,
            "gradient norm of step 6, micro-batch 0, but what came holds inf",
        ),
        many(
            3, "METRICS", 6, "nan", 0, "metrics of step 6, micro-batch 0, but what came holds NaN"
        ),
        many(3, "LOGITS", 0, "nan", 0, "logits of step 8, micro-batch 0, but what came holds NaN"),
        many(
            0, "RELEASE", 1, "nan", 1, "release of step 1, micro-batch 0, but what came holds NaN"
        ),
        (2, "SEGMENT", 0, "nan", 0, "holds NaN"),
    ],
)
def test_the_rank_that_sent_it_is_named_by_the_rank_that_got_it(
    tmp_path: Path, rank: int, what: str, step: int, lie: str, by: int, said: str
) -> None:
    """Step 8 is the validation after the first epoch: its steps count on behind the last of 8."""
    line = one_line(lied(tmp_path, rank, what, step, lie))
    role = "owner" if by == 0 else f"trainer {by}"
    assert line.startswith(f"clicooper: {by}/{RANKS} {role}: ")
    assert f"rank {rank}" in line.split(": ")[2]
    assert said in line
    assert line.endswith(f"else rank {rank} is at fault")


@pytest.mark.parametrize(
    "lie", ["nan", *(pytest.param(lie, marks=pytest.mark.matrix) for lie in ("inf", "-1"))]
)
def test_measured_costs_that_cannot_be_end_the_start(tmp_path: Path, lie: str) -> None:
    line = one_line(lied(tmp_path, 2, "COSTS", 0, lie, 'pipeline.partition="auto"'))
    costs = "message from rank 2 (control): the measured costs say"
    assert line.startswith(f"clicooper: 0/{RANKS} owner: {costs} {float(lie):g} s for layer 1")
    assert line.endswith("else rank 2 is at fault")
