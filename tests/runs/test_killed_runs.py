"""Kill any rank at any moment, resume, and find the run that was never killed."""

from __future__ import annotations

from pathlib import Path

import pytest
from restarts import RESTART_JOB, check_same, resume, struck
from start import train

from clicooper_hpc.commands.inspect import inspect_text
from clicooper_hpc.errors import ExitCode
from clicooper_hpc.runstore.reader import Run, open_run

pytestmark = pytest.mark.mpi

RANKS = 4
#: Which call is the last, by moment: the owner's, a trainer's. All lie behind the first checkpoint,
#: but for the release, which is over by then.
COUNTS = {
    "release": (3, 4),
    "forward": (6, 16),
    "backward": (6, 16),
    "checkpoint": (2, 4),
    "proof": (5, 2),
    "delivery": (5, 2),
}
CELLS = [(rank, moment) for rank in range(RANKS) for moment in COUNTS]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The run that is not interrupted."""
    return train(tmp_path_factory.mktemp("whole"), RANKS, text=RESTART_JOB)


@pytest.mark.matrix
@pytest.mark.parametrize(
    ("rank", "moment"),
    [pytest.param(*cell, id=f"{cell[0]}-{cell[1]}") for cell in CELLS],
)
def test_a_killed_run_resumes_to_the_run_that_was_not(
    tmp_path: Path, whole: Run, rank: int, moment: str
) -> None:
    (tmp_path / "job.toml").write_text(RESTART_JOB)
    done = struck(tmp_path, RANKS, rank, moment, COUNTS[moment][rank > 0])
    assert done.returncode != 0, "nothing was killed"
    left = open_run(tmp_path / "run")
    assert left.status == "incomplete"
    # No script starts it again by itself: not all ranks have saved.
    assert inspect_text(tmp_path / "run")[1] == ExitCode.USAGE
    done = resume(tmp_path, RANKS)
    assert done.returncode == 0, done.stderr
    run = open_run(tmp_path / "run")
    assert run.attrs["restarts"] == 1
    check_same(run, whole)
