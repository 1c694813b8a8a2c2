"""Runs that share a privacy account: the one too many is refused before its first send."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from mpirun import mpirun
from start import start

from clicooper_hpc.cli import main
from clicooper_hpc.owner.run_account import read_account
from clicooper_hpc.runstore.reader import open_run

pytestmark = pytest.mark.mpi

#: Trains in a second. Two runs of epsilon 8 have 12.26 together, three 15.86.
JOB = """
[data]
path = "digits"
train_rows = 200
test_rows = 20
[front]
kind = "dct"
dim = 8
[privacy]
epsilon = 8.0
account = "samples.account"
account_epsilon = 13.0
account_delta = 1e-5
[model]
options = { widths = [8] }
[pipeline]
segments = 1
micro_batches = 2
[provenance]
enabled = false
[training]
epochs = 1
batch_size = 64
[output]
record_wire = true
"""
PROGRAM = Path(__file__).parent / "programs" / "killed_at_send.py"


def test_three_runs_in_turn_the_first_killed_at_its_send_the_third_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "job.toml").write_text(JOB)
    words = ["run", str(tmp_path / "job.toml"), "-o", str(tmp_path / "first"), "--resume"]
    killed = mpirun(2, [str(PROGRAM), *words], cwd=tmp_path)
    assert killed.returncode != 0
    place = tmp_path / "samples.account"
    reserved = place.read_bytes()
    run_id = str(open_run(tmp_path / "first").attrs["run_id"])
    # It has left nothing, but nobody can tell from outside: it counts.
    assert [entry.run for entry in read_account(place).entries] == [run_id]

    # Gone on with, it is the same run, and pays nothing more.
    done = mpirun(2, ["-m", "clicooper_hpc", *words], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "reserved by an earlier start of this run" in done.stderr
    assert open_run(tmp_path / "first").status == "complete"
    assert place.read_bytes() == reserved

    # Another part of the same file, and a validation split: the same samples.
    again = ["data.train_rows=180", "data.validation_rows=20"]
    done = start(tmp_path, 2, *again, text=JOB, name="second")
    assert done.returncode == 0, done.stderr
    assert "2 runs on these samples, epsilon 12.25" in done.stderr

    full = place.read_bytes()
    third = start(tmp_path, 2, text=JOB, name="third")
    assert third.returncode == 3
    (line,) = (one for one in third.stderr.splitlines() if one.startswith("clicooper:"))
    for part in ("in 3 runs", "limit 13", "spent so far 12.25", "Nothing was sent"):
        assert part in line
    assert not (tmp_path / "third").exists()
    assert place.read_bytes() == full

    # A smaller cost still fits where `plan` says so.
    capsys.readouterr()
    assert main(["plan", str(tmp_path / "job.toml")]) == 0
    out = capsys.readouterr().out
    assert "account: 2 runs on these samples, epsilon 12.25" in out
    assert "a new run is REFUSED" in out
    assert main(["account", str(place)]) == 0
    assert "together: epsilon 12.25" in capsys.readouterr().out
    assert main(["account", str(place), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [one["folder"] for one in told["entries"]] == [
        str(tmp_path / name) for name in ("first", "second")
    ]
    (samples,) = told["samples"]
    assert samples["runs"] == 2
    assert samples["absent_epsilon"] < samples["epsilon"] < samples["limit_epsilon"]
