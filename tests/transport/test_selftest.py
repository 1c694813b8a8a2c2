"""The self-test that `clicooper doctor` runs under a launcher."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from mpirun import mpirun

pytestmark = pytest.mark.mpi

PROGRAM = Path(__file__).parent / "programs" / "neighbours.py"


@pytest.mark.parametrize("size", [1, 3])
def test_every_pair_of_neighbours_is_measured_at_rank_0(size: int, tmp_path: Path) -> None:
    done = mpirun(size, [str(PROGRAM), str(tmp_path)])
    assert (done.returncode, done.stderr) == (0, "")
    seen = [json.loads((tmp_path / f"rank-{rank}.json").read_text()) for rank in range(size)]
    hops = [(hop["source"], hop["target"], hop["payload_bytes"]) for hop in seen[0]["hops"]]
    assert hops == [(k, k + 1, n) for k in range(size - 1) for n in (0, 64, 70_000)]
    assert all(0 < hop["microseconds"] < 1e6 for hop in seen[0]["hops"])
    assert all(other["hops"] == [] for other in seen[1:])
    assert seen[0]["ring_microseconds"] > 0
