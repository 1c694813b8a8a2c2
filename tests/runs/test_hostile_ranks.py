"""One rank misbehaves at one moment: who is named, how all ranks end, what a resume makes of it."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hostile_rows import ROWS, Row
from hostile_runs import JOB, RANKS
from mpirun import mpirun

from clicooper_hpc.runstore.reader import open_run
from clicooper_hpc.verification.verification_report import verification_report

pytestmark = pytest.mark.mpi

PROGRAM = Path(__file__).with_name("programs") / "hostile_table.py"
#: More than in an honest run; the smallest lie about sizes is 64 MiB.
_MORE_KB = 48 * 1024
SOME = [row for row in ROWS if row.always]
OTHERS = [row for row in ROWS if not row.always]
LINE = re.compile(rf"^(?:clicooper: )?(\d)/{RANKS} (?:owner|trainer \d): (.*)$", re.MULTILINE)


@dataclass(frozen=True)
class Ends:
    """How the ranks ended, and what they said: of the run with a liar, and of the next start."""

    first: list[dict[str, Any]]
    again: list[dict[str, Any]] | None
    run: Path
    honest_kb: int


def run_rows(folder: Path, rows: Sequence[Row]) -> list[Ends]:
    """Run all of ``rows`` on the same ranks; see programs/hostile_table.py."""
    before = [("raises in stage 1", 1, False), ("honest", 0, False)]
    listed = [*before, *((row.lie, row.rank, row.restart) for row in rows)]
    (folder / "job.toml").write_text(JOB)
    (folder / "rows.json").write_text(
        json.dumps([{"lie": lie, "rank": rank, "restart": again} for lie, rank, again in listed])
    )
    done = mpirun(RANKS, [str(PROGRAM), str(folder)], cwd=folder, timeout_s=60.0 + 60 * len(listed))
    assert done.returncode == 0, done.stderr[-4000:]
    read: list[list[list[dict[str, Any]]]] = [
        [json.loads((folder / str(number) / f"{rank}.json").read_text()) for rank in range(RANKS)]
        for number in range(len(listed))
    ]
    honest_kb = max(rank[0]["more_kb"] for rank in read[1])
    return [
        Ends(
            [rank[0] for rank in ends],
            [rank[1] for rank in ends] if len(ends[0]) > 1 else None,
            folder / str(number) / "run",
            honest_kb,
        )
        for number, ends in enumerate(read)
    ][len(before) :]


def run_selected(
    request: pytest.FixtureRequest, folder: Path, test: str, rows: Sequence[Row]
) -> dict[int, Ends]:
    """Run those of ``rows`` that are selected (``-k``, a test's id), by number."""
    items: list[Any] = [one for one in request.session.items if isinstance(one, pytest.Function)]
    numbers = sorted(item.callspec.params["number"] for item in items if item.originalname == test)
    return dict(zip(numbers, run_rows(folder, [rows[one] for one in numbers]), strict=True))


@pytest.fixture(scope="module")
def some(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> dict[int, Ends]:
    return run_selected(request, tmp_path_factory.mktemp("some"), "test_one_of_each_kind", SOME)


@pytest.fixture(scope="module")
def others(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> dict[int, Ends]:
    return run_selected(request, tmp_path_factory.mktemp("others"), "test_all_others", OTHERS)


def check_row(row: Row, ends: Ends) -> None:
    honest = [rank for rank in range(RANKS) if rank != row.rank]
    said = "".join(one["said"] for one in ends.first)
    lines = [(int(rank), line) for rank, line in LINE.findall(said)]
    codes = [one["code"] for one in ends.first]
    if row.ends == "refused":
        # Ended by itself with the code of the failure, or by the rank that was.
        assert {code for code in codes if code not in (None, 0)} == {row.code}, (codes, said)
        assert all(codes[rank] in (None, row.code) for rank in honest), codes
    else:
        assert codes == [0] * RANKS, said
    if row.ends != "unseen":
        found = [by for by, line in lines if re.search(row.says, line)]
        assert row.by in found or (row.by < 0 and found), said
    for rank in honest:
        assert "Traceback" not in ends.first[rank]["said"]
        blamed = set(re.findall(r"rank (\d) is at fault", ends.first[rank]["said"]))
        assert blamed <= {str(row.rank)}, said
        assert ends.first[rank]["more_kb"] <= ends.honest_kb + _MORE_KB, "memory"
    if ends.again is None:
        # Nothing stands in the way of the next start.
        assert not ends.run.exists() or not (ends.run / "run.h5").exists()
        return
    assert [one["code"] for one in ends.again] == [0] * RANKS, ends.again
    assert open_run(ends.run).status == "complete"
    keys: dict[str, Any] = {"owner_key": None, "trainer_keys": [], "mark_keys": []}
    text, verdict = verification_report(ends.run, segment_file=None, as_json=False, **keys)
    assert verdict == 0, text


@pytest.mark.parametrize("number", range(len(SOME)), ids=[row.lie for row in SOME])
def test_one_of_each_kind(some: dict[int, Ends], number: int) -> None:
    check_row(SOME[number], some[number])


@pytest.mark.matrix
@pytest.mark.parametrize(
    "number",
    range(len(OTHERS)),
    ids=[f"{row.lie}{', resumed' * row.restart}" for row in OTHERS],
)
def test_all_others(others: dict[int, Ends], number: int) -> None:
    check_row(OTHERS[number], others[number])


def test_the_table_is_long_and_no_row_stands_twice() -> None:
    named = [(row.lie, row.restart) for row in ROWS]
    assert len(named) == len(set(named)) >= 120
