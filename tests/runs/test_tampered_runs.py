"""The tamper matrix over everything a user reads of a finished run, each row with a full verify."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from start import train
from tampering import Tampering, copied, folder_tamperings, hdf5_tamperings

from clicooper_hpc.errors import ClicooperError, ExitCode
from clicooper_hpc.runstore.reader import Run
from clicooper_hpc.verification.verification_report import verification_report

pytestmark = pytest.mark.mpi

JOB = """
[data]
path = "digits"
train_rows = 90
test_rows = 20
validation_rows = 10
[front]
kind = "random"
dim = 16
[privacy]
epsilon = 50.0
[labels]
expansion = 2
[model]
options = { widths = [256, 256, 256, 256] }
[pipeline]
micro_batches = 2
[training]
epochs = 2
batch_size = 40
[provenance]
stages = 2
marks = "required"
[output]
record_wire = true
"""
#: So many parts has the whole table, each a test of its own.
PARTS = 12


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train(tmp_path_factory.mktemp("honest"), 3, text=JOB)


@pytest.fixture(scope="module")
def rows(honest: Run) -> list[Tampering]:
    """Every row of the run; making them fails where an object has no rule."""
    return rows_of(honest.folder.path)


def rows_of(path: Path) -> list[Tampering]:
    found = list(folder_tamperings(path))
    # Files of trainers are alike: the first stands for all.
    for name in ("run.h5", "rank-000.h5", "rank-001.h5"):
        found += hdf5_tamperings(path, name)
    return found


def verified(path: Path) -> tuple[dict[int, str], str, ExitCode]:
    """Return the failed checks with details, what is not covered or kept, and the exit code."""
    text, code = verification_report(
        path, owner_key=None, trainer_keys=[], mark_keys=[], segment_file=None, as_json=True
    )
    found = json.loads(text)
    failed = {one["number"]: one["detail"] for one in found["checks"] if one["passed"] is False}
    kept = next(one["detail"] for one in found["checks"] if one["title"] == "Checkpoint files")
    return failed, ", ".join([*found["not_covered"], kept]), code


def missed(honest: Run, rows: list[Tampering], place: Path) -> list[str]:
    """Return what `verify` says of those rows that it does not notice as it must."""
    wrong = []
    for row in rows:
        copy = copied(honest.folder.path, place)
        row.act(copy)
        try:
            failed, uncovered, code = verified(copy)
        except ClicooperError as error:
            # Refused before there is a check: named all the same, and no success.
            if error.exit_code not in (ExitCode.USAGE, ExitCode.VERIFICATION) or not row.fails:
                wrong.append(f"{row.name}: {error}")
            continue
        if row.fails:
            noticed = any(row.says in failed.get(one, "") for one in row.fails & failed.keys())
            good = noticed and code == ExitCode.VERIFICATION
        else:
            folder = row.says.rpartition("/")[0]
            parents = [row.says, *(f"{one}/" for one in (folder, folder.partition("/")[0]) if one)]
            good = code == ExitCode.DONE and any(one in uncovered for one in parents)
        if not good:
            wrong.append(f"{row.name}: {failed} / {uncovered}")
    return wrong


def test_every_object_of_a_run_has_a_row(rows: list[Tampering]) -> None:
    assert len(rows) >= 600
    assert {number for row in rows for number in row.fails} >= {1, 2, 4, 5, 13, 14, 15, 16, 18, 19}


def test_one_tampering_of_each_kind_is_noticed_or_named(
    honest: Run, rows: list[Tampering], tmp_path: Path
) -> None:
    assert verified(honest.folder.path)[0] == {}
    first = {row.kind: row for row in reversed(rows)}
    assert len(first) >= 40
    assert missed(honest, list(first.values()), tmp_path / "copy") == []


@pytest.mark.matrix
@pytest.mark.parametrize("part", range(PARTS))
def test_every_tampering_is_noticed_or_named(
    honest: Run, rows: list[Tampering], tmp_path: Path, part: int
) -> None:
    assert missed(honest, rows[part::PARTS], tmp_path / "copy") == []
