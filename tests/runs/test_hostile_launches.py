"""A hostile rank in a launch of its own: what the launcher answers, and what ends the others."""

from __future__ import annotations

from pathlib import Path

import pytest
from hostile_runs import RANKS, hostile_run
from restarts import check_verified, resume

from clicooper_hpc.cli import main
from clicooper_hpc.runstore.reader import open_run

pytestmark = pytest.mark.mpi


def many(*case: object) -> object:
    """Mark one of many like cells."""
    return pytest.param(*case, marks=pytest.mark.matrix)


@pytest.mark.parametrize(
    ("lie", "rank", "by", "says", "code"),
    [
        # Mostly the launcher hears nothing of a rank that leaves in peace, and the deadline of its
        # neighbour ends the run.
        ("leaves with 0", 2, 1, "for the gradient of step 6, micro-batch", 1),
        many("leaves with 0 in a delivery", 2, 0, "from rank 2", 1),
        many("sys.exit(0)", 2, 1, "for the gradient of step 6, micro-batch", 1),
        many("activation: payload bytes", 1, 2, "rank 1 is at fault", 1),
        many("activation: flipped bit", 1, 2, "rank 1 claims to have exchanged other", 4),
        many("contract: others to one", 0, 2, "rank 1 was told something else than rank 2", 1),
        many("checkpoint: garbage", 2, 0, "checkpoint message from rank 2", 1),
        # Killed: the launcher ends the others, who say nothing.
        many("killed in a step", 2, -1, "", None),
        many("killed in a checkpoint", 1, -1, "", None),
        many("killed in a proof", 2, -1, "", None),
        many("killed in a delivery", 1, -1, "", None),
        many("killed before a step", 0, -1, "", None),
    ],
)
def test_all_ranks_end_and_honest_ones_go_on(
    tmp_path: Path, lie: str, rank: int, by: int, says: str, code: int | None
) -> None:
    ended = hostile_run(tmp_path, rank, lie)
    assert "Traceback" not in ended.done.stderr
    for other in range(RANKS):
        if other != rank:
            assert ended.codes[other] in (None, code), ended.codes
    if code is None:
        assert ended.codes[rank] is None, "nobody was killed"
    # Where it does hear of it, it kills the others, who say nothing; its own code may then be 0.
    heard = lie.startswith(("leaves", "sys.exit")) and ended.codes[by] is None
    if code is not None and not heard:
        assert ended.done.returncode == code, ended.done.stderr
        assert any(one == by and says in line for one, line in ended.lines), ended.done.stderr
    if not (tmp_path / "run" / "run.h5").is_file():
        return
    # What scripts go by: neither done nor saved by all, whatever the launcher said.
    assert main(["inspect", str(tmp_path / "run")]) == 2
    done = resume(tmp_path, RANKS)
    assert done.returncode == 0, done.stderr
    run = open_run(tmp_path / "run")
    assert run.status == "complete"
    check_verified(run)
