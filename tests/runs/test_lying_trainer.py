"""A rank that sends numbers that are not finite, or other tensors than agreed, is named at once."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from mpirun import mpirun
from restarts import RESTART_JOB, check_same, resume
from start import train

from clicooper_hpc.runstore.checkpoints import find_checkpoints
from clicooper_hpc.runstore.reader import Run, open_run

pytestmark = pytest.mark.mpi

PROGRAM = Path(__file__).with_name("programs") / "lying_trainer.py"
RANKS = 4
#: Clipped, so that gradient norms travel; checkpoints are made after 2, 5 and 8 steps.
JOB = RESTART_JOB.replace("batch_size = 16", "batch_size = 16\nclip_norm = 1.0")
STEP = 6
#: What still goes on in a late step.
MOST = ("GRADIENT", "ACTIVATION", "NORM", "METRICS")
#: Who lies, about what, how; who says so, of which message, and what is wrong with it.
LIES = [
    (3, "GRADIENT", "nan", 2, "backward", "gradient", "holds NaN"),
    (2, "GRADIENT", "inf", 1, "backward", "gradient", "holds infinity"),
    (3, "GRADIENT", "row", 2, "backward", "gradient", "has shape [5, 16] instead of [6, 16]"),
    (2, "GRADIENT", "bfloat16", 1, "backward", "gradient", "holds torch.bfloat16 instead of"),
    (1, "ACTIVATION", "nan", 2, "forward", "activation", "holds NaN"),
    (2, "ACTIVATION", "-inf", 3, "forward", "activation", "holds infinity"),
    (1, "ACTIVATION", "row", 2, "forward", "activation", "has shape [5, 16] instead of [6, 16]"),
    (2, "ACTIVATION", "bfloat16", 3, "forward", "activation", "holds torch.bfloat16 instead of"),
    (1, "NORM", "nan", 2, "forward", "gradient norm", "holds NaN"),
    (3, "NORM", "inf", 2, "backward", "gradient norm", "holds infinity"),
    (3, "METRICS", "nan", 0, "control", "metrics", "holds NaN"),
    (3, "METRICS", "inf", 0, "control", "metrics", "holds infinity"),
    (3, "LOGITS", "nan", 0, "control", "logits", "holds NaN"),
    (3, "LOGITS", "inf", 0, "control", "logits", "holds infinity"),
    (3, "LOGITS", "row", 0, "control", "logits", "has shape"),
    (0, "RELEASE", "nan", 1, "forward", "release", "holds NaN"),
]
#: What every test run does; `make test-all` tells all lies.
FEW = [LIES[0], LIES[4], LIES[9], LIES[10], LIES[12]]


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


@pytest.mark.parametrize(
    ("rank", "what", "lie", "says", "direction", "message", "problem"),
    [
        pytest.param(*lie, marks=[] if lie in FEW else pytest.mark.matrix, id="-".join(lie[1:3]))
        for lie in LIES
    ],
)
def test_the_rank_that_sent_it_is_named_and_honest_ranks_resume(
    tmp_path: Path,
    whole: Run,
    rank: int,
    what: str,
    lie: str,
    says: int,
    direction: str,
    message: str,
    problem: str,
) -> None:
    # The owner releases in the first epoch only, and validates after the first epoch.
    line = one_line(lied(tmp_path, rank, what, STEP if what in MOST else 1, lie))
    role = "owner" if says == 0 else f"trainer {says}"
    start = f"clicooper: {says}/{RANKS} {role}: message from rank {rank} ({direction}): "
    assert line.startswith(f"{start}rank {says} expected the {message} of step ")
    assert f", micro-batch 0, but what came {problem}" in line
    assert line.endswith(f"else rank {rank} is at fault")
    assert open_run(tmp_path / "run").status == "incomplete"
    done = resume(tmp_path, RANKS)
    assert done.returncode == 0, done.stderr
    check_same(open_run(tmp_path / "run"), whole)


def test_a_delivered_segment_that_is_not_finite_is_refused(tmp_path: Path, whole: Run) -> None:
    line = one_line(lied(tmp_path, 2, "SEGMENT", 0, "nan"))
    assert line.startswith(
        f"clicooper: 0/{RANKS} owner: segment delivered by rank 2 after step 4: tensor "
    )
    assert "holds NaN" in line
    assert line.endswith("else rank 2 is at fault")
    done = resume(tmp_path, RANKS)
    assert done.returncode == 0, done.stderr
    check_same(open_run(tmp_path / "run"), whole)


def test_a_checkpoint_that_is_not_finite_is_passed_over(tmp_path: Path, whole: Run) -> None:
    assert "message from rank 3 (backward)" in one_line(lied(tmp_path, 3, "CHECKPOINT", 5, "nan"))
    assert [one.step for one in find_checkpoints(tmp_path / "run")] == [5, 2]
    done = resume(tmp_path, RANKS)
    assert done.returncode == 0, done.stderr
    assert "the checkpoint after 5 steps cannot be used" in done.stderr
    check_same(open_run(tmp_path / "run"), whole)


@pytest.mark.parametrize("lie", ["nan", "inf", "-1", "1e300"])
def test_measured_costs_that_cannot_be_end_the_start(tmp_path: Path, lie: str) -> None:
    line = one_line(lied(tmp_path, 2, "COSTS", 0, lie, 'pipeline.partition="auto"'))
    costs = "message from rank 2 (control): the measured costs say"
    assert line.startswith(f"clicooper: 0/{RANKS} owner: {costs} {float(lie):g} s for layer 1")
    assert line.endswith("else rank 2 is at fault")
