"""A run that diverges honestly: the rank where it does says where, and nobody is blamed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from start import start

pytestmark = pytest.mark.mpi

RANKS = 3


@pytest.mark.parametrize(
    ("rate", "says"),
    [
        ("1e20", r"first behind layer \d+ \(\w+\), from numbers of at most \d.\de\+\d+"),
        pytest.param("1e38", "first ", marks=pytest.mark.matrix),
    ],
)
def test_a_huge_learning_rate_is_told_where_it_overflows(
    tmp_path: Path, rate: str, says: str
) -> None:
    done = start(tmp_path, RANKS, f"training.learning_rate={rate}")
    assert done.returncode == 1, done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("clicooper:")]
    # One line, but for two ranks that overflow in the same instant, in different micro-batches.
    assert 1 <= len(lines) < RANKS, done.stderr
    for line in lines:
        found = re.fullmatch(rf"clicooper: (\d)/{RANKS} trainer \1: (.*)", line)
        assert found, lines
        assert "training diverged on this rank, first " in found[2]
        assert re.search(says, found[2]), found[2]
        assert "what came in was at most" in found[2]
        assert "Lower training.learning_rate" in found[2]
    assert "at fault" not in done.stderr
    assert "Traceback" not in done.stderr
