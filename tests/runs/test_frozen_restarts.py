"""With clock and chance taken out, a killed run writes the proofs and marks of one that was not."""

from __future__ import annotations

from pathlib import Path

import pytest
from restarts import RESTART_JOB, statements, struck

from clicooper_hpc.provenance.identity import Identity
from clicooper_hpc.runstore.reader import Run, open_run

pytestmark = [pytest.mark.mpi, pytest.mark.matrix]

RANKS = 3
JOB = (
    RESTART_JOB.replace("widths = [16, 16]", "widths = [256, 256, 256]")
    + 'marks = "required"\nidentities = "rank-{rank}.pem"\nmark_every_steps = 2\n'
)


def proofs(run: Run) -> list[tuple[str, dict[str, object]]]:
    """Return all statements, without the only figure that is a time."""
    found = statements(run)
    results = found[-1][1]["results"]
    assert isinstance(results, dict)
    assert results.pop("wall_s")
    return found


@pytest.mark.slow
def test_marks_and_proofs_are_those_of_a_run_that_was_not_interrupted(tmp_path: Path) -> None:
    (tmp_path / "job.toml").write_text(JOB)
    for rank in range(RANKS):
        key = tmp_path / f"rank-{rank}.pem"
        key.write_bytes(Identity.generate().to_pem())
        key.chmod(0o600)
    done = struck(tmp_path, RANKS, 0, "forward", 0, name="whole", frozen=True)
    assert done.returncode == 0, done.stderr
    whole = open_run(tmp_path / "whole")

    # Stopped in the middle of a stage; then killed while a stage is proved.
    done = struck(tmp_path, RANKS, 2, "forward", 8, what="SIGUSR1", frozen=True)
    assert done.returncode == 75, done.stderr
    done = struck(tmp_path, RANKS, 0, "proof", 2, again=True, frozen=True)
    assert done.returncode not in (0, 75), done.stderr
    done = struck(tmp_path, RANKS, 0, "forward", 0, again=True, frozen=True)
    assert done.returncode == 0, done.stderr
    run = open_run(tmp_path / "run")

    for name in ("segment-001.safetensors", "segment-002.safetensors"):
        ours, theirs = ((one.folder.delivery / name).read_bytes() for one in (run, whole))
        assert ours == theirs
    assert proofs(run) == proofs(whole)
    marks = [proof["mark"] for kind, proof in statements(run) if kind == "stage"]
    assert len(marks) == 6
    assert all(marks)
