"""Trainers that hold their keys and lie: who is named, and that nobody else is accused."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from dishonest import ACCEPTED, FAIL, FALSE, OPEN, PASS, REFUSED, Accepted, Refused, table
from mpirun import mpirun

from clicooper_hpc.cli import main

#: All runs of a session are made at once.
pytestmark = [pytest.mark.mpi, pytest.mark.usefixtures("one_thread"), pytest.mark.timeout(1800)]

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "dishonest-trainers.md"
PROGRAM = Path(__file__).parent / "programs" / "dishonest_runs.py"
LIAR, STAGE = 2, 1
#: 10 steps in 3 stages, marks in all segments.
JOB = """
[data]
path = "digits"
train_rows = 150
test_rows = 20
[front]
kind = "random"
dim = 12
[privacy]
epsilon = 50.0
[model]
options = { widths = [224, 224, 224, 224], dropout = 0.1 }
[pipeline]
micro_batches = 4
partition = [6, 9]
[training]
epochs = 2
batch_size = 32
clip_norm = 0.5
[provenance]
stages = 3
mark_every_steps = 1
"""


def some(rows: tuple[Any, ...]) -> list[Any]:
    """Return the rows, all but those of every test run marked as many like ones."""
    return [
        pytest.param(row, id=row.lie, marks=[] if row.default else [pytest.mark.matrix])
        for row in rows
    ]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    """All runs that are asked for, made in one start."""
    folder = tmp_path_factory.mktemp("dishonest")
    (folder / "job.toml").write_text(JOB)
    chosen = {
        item.callspec.params.get("row")
        for item in request.session.items
        if hasattr(item, "callspec")
    }
    lies = [row.lie for row in ACCEPTED if row in chosen]
    done = mpirun(
        4,
        [str(PROGRAM), str(folder / "job.toml"), str(folder), "honest", *lies],
        timeout_s=1500.0,
    )
    assert done.returncode == 0, done.stderr
    (folder / "stderr").write_text(done.stderr)
    return folder


def called(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    code = main(words)
    texts = capsys.readouterr()
    assert "Traceback" not in texts.err
    return code, texts.out


def named(report: dict[str, Any]) -> set[int]:
    """Return whom an audit names, in whatever way."""
    stage = report["stages"][0]
    lists = [
        report["false_statements"],
        *(stage[name] for name in ("findings", "false_statements")),
    ]
    return {one["rank"] for found in lists for one in found if one["rank"] is not None}


def judged(report: dict[str, Any], code: int) -> str:
    """Return what an audit says, as the page does."""
    stage = report["stages"][0]
    if stage["outcome"] in (FAIL, OPEN):
        assert code == 4
        return str(stage["outcome"])
    assert code == (4 if named(report) else 0)
    return FALSE if code else PASS


@pytest.mark.parametrize("row", some(ACCEPTED))
def test_a_dishonest_trainer_is_named_and_nobody_else(
    runs: Path, row: Accepted, capsys: pytest.CaptureFixture[str]
) -> None:
    run = str(runs / row.lie)
    assert int((runs / f"{row.lie}.code").read_text()) == (4 if row.verify else 0)
    code, text = called(capsys, "verify", run, "--json")
    failed = {one["number"] for one in json.loads(text)["checks"] if one["passed"] is False}
    # What the owner finds at the end keeps it from marking the run complete: check 5.
    wanted = {5, *row.verify} if row.verify else set()
    assert (code, failed) == (4 if row.verify else 0, wanted), text
    stage = "0" if row.lie == "false first optimizer" else str(STAGE)
    for outcome, options in ((row.exact, []), (row.tol, ["--tolerance", "0.02"])):
        code, text = called(capsys, "audit", run, "--stage", stage, "--json", *options)
        report = json.loads(text)
        assert judged(report, code) == outcome, text
        assert named(report) <= {LIAR}, text
        # What it said or did not say of others' work is no reason not to look at it.
        outcomes = report["stages"][0]["segments"]
        assert all(outcomes[str(other)] != "FAIL" for other in (1, 3)), text
        if outcome in (FALSE, PASS):
            assert {outcomes["1"], outcomes["3"]} <= {"EXACT", "TOL"}, text
        if outcome == OPEN:
            assert [one["rank"] for one in report["stages"][0]["withheld"]] == [LIAR], text
        elif outcome == FALSE or (outcome == FAIL and not options):
            assert named(report) == {LIAR}, text
        # Within a tolerance nobody is convicted.
        if options:
            assert report["stages"][0]["findings"] == [], text


def test_the_owner_names_the_liar_alone_when_a_run_has_ended(runs: Path) -> None:
    lines = (runs / "stderr").read_text().splitlines()
    refused = [line for line in lines if line.startswith("clicooper:")]
    assert len(refused) == sum(path.read_text() == "4" for path in runs.glob("*.code")), lines
    for line in refused:
        assert line.startswith("clicooper: 0/4 owner: "), line
        assert {one[-1] for one in re.findall(r"of (?:rank|segment) [0-9]", line)} == {"2"}, line


def test_the_run_in_which_nobody_lies_passes_both_audits(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = str(runs / "honest")
    assert called(capsys, "verify", run)[0] == 0
    assert called(capsys, "audit", run, "--stage", "0", "1", "2")[0] == 0
    assert called(capsys, "audit", run, "--stage", "1", "--tolerance", "0.02")[0] == 0


@pytest.mark.parametrize("row", some(REFUSED))
def test_a_lie_that_ends_the_run_names_the_liar(
    tmp_path: Path, row: Refused, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "job.toml").write_text(JOB)
    done = mpirun(4, [str(PROGRAM), str(tmp_path / "job.toml"), str(tmp_path), row.lie])
    assert done.returncode == 4, done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("clicooper:")]
    assert len(lines) == 1, done.stderr
    rank = "3/4 trainer 3" if row.by == "rank 3" else "0/4 owner"
    assert lines[0].startswith(f"clicooper: {rank}: proof of "), lines[0]
    assert "rank 2" in lines[0] or "segment 2" in lines[0]
    assert row.says in lines[0]
    kept = list((tmp_path / row.lie / "equivocation").glob("rank-000-*.json"))
    assert len(kept) == row.evidence
    if kept:
        assert str(kept[0]) in lines[0]
        assert set(re.findall(r"(?:rank|segment) ([0-9])", lines[0])) == {str(LIAR)}
        _, text = called(capsys, "verify", str(tmp_path / row.lie), "--json")
        (check,) = (one for one in json.loads(text)["checks"] if one["number"] == 16)
        says = f"trainer {LIAR}: it signed two proofs of stage {STAGE} in one start of the run: "
        assert check["detail"] == says + kept[0].name


def test_the_page_shows_these_rows() -> None:
    assert len(ACCEPTED) + len(REFUSED) >= 30
    text = PAGE.read_text(encoding="utf-8")
    assert table([*ACCEPTED, *REFUSED]) in text
