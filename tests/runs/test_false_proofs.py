"""A trainer that proves falsely with its own key: no such run ends as done."""

from __future__ import annotations

from pathlib import Path

import pytest
from mpirun import mpirun
from start import SMALL

from clicooper_hpc.runstore.reader import open_run

pytestmark = pytest.mark.mpi

PROGRAM = Path(__file__).with_name("programs") / "false_prover.py"
RANKS = 3
JOB = (
    SMALL.replace("widths = [16, 16]", "widths = [256, 256, 256, 256]").replace(
        "record_wire = true", ""
    )
    + """
[provenance]
stages = 2
marks = "required"
"""
)


def many(*case: object) -> object:
    """Mark one of many like cells."""
    return pytest.param(*case, marks=pytest.mark.matrix)


@pytest.mark.parametrize(
    ("lie", "says", "ended"),
    [
        many("unenrolled", "enrolment of rank 2: it names no mark", False),
        many("unmarked", "proof of segment 2, stage 0: it has no mark", False),
        ("tables", "check 15 (Metric tables) failed: rows of rank 2, stage 0: ", True),
        many("messages", "check 18 (Messages) failed: messages of rank 2, stage 0, ", True),
        many(
            "heads",
            "check 16 (Trainers' view) failed: trainer 2: its file says that it saw another ledger",
            True,
        ),
        many("checkpoint", "(Checkpoint files) failed: checkpoint of segment 2, stage 0: ", True),
        many("units", "check 19 (HDF5 files) failed: rank-002.h5: /training/loss@units", True),
    ],
)
def test_a_run_that_could_not_be_verified_is_not_done(
    tmp_path: Path, lie: str, says: str, ended: bool
) -> None:
    """Lies in what the owner is sent end the run at once, others before it is marked complete."""
    (tmp_path / "job.toml").write_text(JOB)
    words = ["run", str(tmp_path / "job.toml"), "-o", str(tmp_path / "run"), "-q"]
    done = mpirun(RANKS, [str(PROGRAM), "2", lie, *words], cwd=tmp_path)
    assert done.returncode == 4, done.stderr
    assert "Traceback" not in done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("clicooper:")]
    assert line.startswith(f"clicooper: 0/{RANKS} owner: ")
    assert says in line
    run = open_run(tmp_path / "run")
    assert run.status == "incomplete"
    # The delivery is signed, and the results stand there; only the word is missing.
    assert bool(run.results) == ended
