"""An owner that signs something else than was agreed: the trainers end the run unproved."""

from __future__ import annotations

import base64
import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from mpirun import mpirun
from start import SMALL

from clicooper_hpc.runstore.reader import open_run

pytestmark = pytest.mark.mpi

PROGRAM = Path(__file__).with_name("programs") / "lying_owner.py"
RANKS = 3
PAYLOAD = re.compile(rb'\\?"payload\\?":\\?"([A-Za-z0-9+/=]+)\\?"')


def lied(folder: Path, lie: str) -> subprocess.CompletedProcess[str]:
    (folder / "job.toml").write_text(SMALL + "[provenance]\nstages = 3\n")
    words = ["run", str(folder / "job.toml"), "-o", str(folder / "run"), "-q"]
    return mpirun(RANKS, [str(PROGRAM), lie, *words], cwd=folder)


def contents(folder: Path) -> Iterator[bytes]:
    """Yield the bytes of every file, and the texts in the tables, which are packed there."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            yield path.read_bytes()
    run = open_run(folder)
    for rank in run.ranks:
        for columns in run.stored_rows(rank).values():
            for values in columns.values():
                if values.dtype.kind in "SO":
                    yield from map(bytes, values)


def signed_kinds(folder: Path) -> set[str]:
    """Return the kinds of all statements anywhere in the folder: stored, or as they were sent."""
    payloads = {text for content in contents(folder) for text in PAYLOAD.findall(content)}
    return {json.loads(base64.b64decode(text))["predicateType"].split(":")[2] for text in payloads}


def refusals(done: subprocess.CompletedProcess[str], says: str) -> list[int]:
    """Return the trainers that refused, which is all that may be said; each says it once."""
    assert done.returncode == 4, done.stderr
    assert "Traceback" not in done.stderr
    ranks = []
    for line in done.stderr.splitlines():
        if line.startswith("clicooper:"):
            found = re.fullmatch(rf"clicooper: (\d)/{RANKS} trainer (\d): {says}", line)
            assert found, line
            assert found[1] == found[2]
            ranks.append(int(found[1]))
    assert len(ranks) == len(set(ranks)), done.stderr
    return ranks


@pytest.mark.matrix
def test_other_stages_than_agreed_end_the_run_before_anybody_enrols(tmp_path: Path) -> None:
    done = lied(tmp_path, "bounds")
    says = "run statement of the owner: has other stages than the agreed job"
    # All trainers were told the same: whoever speaks before the first has ended the others.
    assert refusals(done, says)
    assert signed_kinds(tmp_path / "run") == {"run"}
    assert open_run(tmp_path / "run").status == "incomplete"


def test_a_ticket_of_other_samples_ends_the_run_before_anything_is_proved(tmp_path: Path) -> None:
    done = lied(tmp_path, "samples")
    says = "ticket of segment 2, stage 0: orders something else than the agreed job"
    assert refusals(done, says) == [2]
    assert signed_kinds(tmp_path / "run") == {"run", "enrolment", "ticket"}
    run = open_run(tmp_path / "run")
    assert run.status == "incomplete"
    assert set(run.table("ledger", 0)["kind"]) == {"run", "enrolment", "ticket"}


@pytest.mark.matrix
def test_a_delivery_over_another_ledger_is_not_cosigned(tmp_path: Path) -> None:
    """Nothing but the trainers' own copies shows it while the run lives."""
    done = lied(tmp_path, "delivery")
    says = r"the finished ledger: check 13 \(Delivery\) failed: delivery: the root of .*"
    assert refusals(done, says)
    run = open_run(tmp_path / "run")
    assert run.status == "incomplete"
    # The last checkpoint waits for its cosigners.
    assert len(run.table("checkpoints", 0)) == 4
