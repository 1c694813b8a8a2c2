"""Stopping on request, what resume refuses, and damage it passes over."""

from __future__ import annotations

import fcntl
import json
import re
import shutil
from pathlib import Path
from typing import Any

import h5py
import pytest
from mpirun import mpirun
from restarts import RESTART_JOB, check_same, resume, statements, struck
from start import start, train

from clicooper_hpc.provenance.envelope import parse_envelope, sign_envelope
from clicooper_hpc.provenance.identity import Identity
from clicooper_hpc.runstore.checkpoints import find_checkpoints
from clicooper_hpc.runstore.reader import Run, open_run
from clicooper_hpc.runstore.tables.schema import OWNER_TABLES, TRAINER_TABLES
from clicooper_hpc.runstore.tables.shard_writer import ShardWriter
from clicooper_hpc.runstore.tables.writer import KeptRows

pytestmark = pytest.mark.mpi

RANKS = 3


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The run that is not interrupted."""
    return train(tmp_path_factory.mktemp("whole"), RANKS, text=RESTART_JOB)


@pytest.fixture(scope="module")
def left(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a job and a run that was killed in its last stage, behind two checkpoints."""
    folder = tmp_path_factory.mktemp("left")
    (folder / "job.toml").write_text(RESTART_JOB)
    done = struck(folder, RANKS, 1, "forward", 20)
    assert done.returncode != 0
    assert [one.step for one in find_checkpoints(folder / "run")] == [5, 2]
    return folder


@pytest.fixture
def copy(left: Path, tmp_path: Path) -> Path:
    """Return a copy of that folder, for one test."""
    shutil.copytree(left, tmp_path, dirs_exist_ok=True)
    return tmp_path


def one_line(stderr: str) -> str:
    lines = [line for line in stderr.splitlines() if line.startswith("clicooper:")]
    assert len(lines) == 1, stderr
    assert "Traceback" not in stderr
    return lines[0]


def stored(run: Run, rank: int) -> dict[str, dict[str, Any]]:
    """Return the rows of a rank: table to column to values."""
    return {table.name: rows for table, rows in run.stored_rows(rank).items()}


def rewrite(run: Run, rank: int, rows: dict[str, dict[str, Any]]) -> None:
    """Write the tables of a rank anew with these rows."""
    attributes: dict[str, str | int | float | bool] = {
        "run_id": str(run.attrs["run_id"]),
        "rank": rank,
    }
    tables = TRAINER_TABLES if rank else OWNER_TABLES
    with ShardWriter(run.folder.shard(rank), tables, attributes, earlier=KeptRows(rows, {})):
        pass


def files(folder: Path) -> dict[str, bytes]:
    """Return the bytes of every file, by its path in the folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.mark.matrix
@pytest.mark.parametrize(
    ("rank", "what"),
    [
        (1, "SIGUSR1"),
        (2, "SIGTERM"),
        (0, "SIGUSR2"),
    ],
)
def test_a_request_to_any_rank_stops_all_at_one_step_and_loses_nothing(
    tmp_path: Path, whole: Run, rank: int, what: str
) -> None:
    (tmp_path / "job.toml").write_text(RESTART_JOB)
    done = struck(tmp_path, RANKS, rank, "forward", 3 if rank == 0 else 2, what=what)
    assert done.returncode == 75, done.stderr
    assert "clicooper resume" in done.stderr
    newest = find_checkpoints(tmp_path / "run")[0]
    assert 0 < newest.step < 8
    # What was done before the request stands in the tables, whole.
    assert list(open_run(tmp_path / "run").table("steps", 1).index) == list(range(newest.step))
    done = resume(tmp_path, RANKS)
    assert done.returncode == 0, done.stderr
    check_same(open_run(tmp_path / "run"), whole)


def test_the_file_stop_stops_a_run_once(tmp_path: Path, whole: Run) -> None:
    (tmp_path / "job.toml").write_text(RESTART_JOB)
    stop = tmp_path / "run" / "STOP"
    done = struck(tmp_path, RANKS, 0, "forward", 1, what=str(stop))
    assert done.returncode == 75, done.stderr
    assert "the file STOP" in done.stderr
    # How a run is carried out may change; what it computes is the same.
    done = resume(tmp_path, RANKS, "pipeline.timeout_s=250.0", "checkpoint.every_steps=2")
    assert done.returncode == 0, done.stderr
    assert len(find_checkpoints(tmp_path / "run")) == 2
    assert not stop.exists()
    check_same(open_run(tmp_path / "run"), whole)


@pytest.mark.matrix
def test_the_jobs_own_time_limit_stops_it_and_run_resume_continues(tmp_path: Path) -> None:
    limit = "checkpoint.stop_after_min=0.0001"
    done = start(tmp_path, 2, limit, text=RESTART_JOB)
    assert done.returncode == 75, done.stderr
    job, run = tmp_path / "job.toml", tmp_path / "run"
    words = ["-m", "clicooper_hpc", "run", str(job), "-o", str(run), "--resume", "-q"]
    assert "does one step, then it stops" in done.stderr
    # The limit is passed again in each start, before its first step; yet each does one.
    done = mpirun(2, [*words, "--set", limit], cwd=tmp_path)
    assert done.returncode == 75, done.stderr
    assert "stopped after 2 steps" in done.stderr
    assert open_run(run).attrs["restarts"] == 1


@pytest.mark.matrix
def test_a_run_resumed_many_times_is_the_run_that_was_not_interrupted(
    tmp_path: Path, whole: Run
) -> None:
    (tmp_path / "job.toml").write_text(RESTART_JOB)
    struck(tmp_path, RANKS, 2, "forward", 2)  # before any checkpoint
    struck(tmp_path, RANKS, 1, "forward", 8, again=True)
    struck(tmp_path, RANKS, 0, "release", 1, again=True)  # while lost rows are sent again
    done = struck(tmp_path, RANKS, 0, "delivery", 1, again=True)
    assert done.returncode != 0
    done = resume(tmp_path, RANKS)
    assert done.returncode == 0, done.stderr
    run = open_run(tmp_path / "run")
    assert run.attrs["restarts"] == 4
    check_same(run, whole)


def test_damaged_checkpoints_are_passed_over_and_proved_stages_compared(
    copy: Path, whole: Run
) -> None:
    before = statements(open_run(copy / "run"))
    for checkpoint in find_checkpoints(copy / "run"):
        path = checkpoint.folder / "segment-002.safetensors"
        content = bytearray(path.read_bytes())
        content[-3] ^= 1
        path.unlink()  # the state kept for audits may be the same file
        path.write_bytes(bytes(content))
    # A start too short to come beyond what is proved saves nothing, and does not ask for another.
    done = resume(copy, RANKS, "checkpoint.stop_after_min=0.0001")
    assert done.returncode == 5, done.stderr
    assert "nothing was saved" in done.stderr
    assert done.stderr.count("an older one is") == 2
    assert "segment-002.safetensors" in done.stderr
    done = resume(copy, RANKS)
    assert done.returncode == 0, done.stderr
    run = open_run(copy / "run")
    check_same(run, whole)
    # What was proved before stands as it was: no stage was proved again.
    assert statements(run)[: len(before)] == before
    # What is proved since names another start than the proofs before, on all ranks the same one.
    starts = [said["start"] for kind, said in statements(run) if kind == "stage"]
    old = sum(kind == "stage" for kind, _ in before)
    assert 0 < old < len(starts)
    assert len(set(starts[:old])) == len(set(starts[old:])) == 1
    assert starts[0] != starts[-1]


@pytest.mark.matrix
def test_a_checkpoint_without_its_index_is_none(copy: Path, whole: Run) -> None:
    newest = find_checkpoints(copy / "run")[0]
    (newest.folder / "index.json").unlink()
    done = resume(copy, RANKS)
    assert done.returncode == 0, done.stderr
    check_same(open_run(copy / "run"), whole)


def test_a_complete_run_has_nothing_to_resume(whole: Run) -> None:
    done = mpirun(RANKS, ["-m", "clicooper_hpc", "resume", str(whole.folder.path)])
    assert done.returncode == 0
    assert "the run is complete" in done.stderr


def test_another_number_of_ranks_is_refused(copy: Path) -> None:
    done = resume(copy, 2)
    assert done.returncode == 2
    assert "mpirun -n 3 clicooper resume" in one_line(done.stderr)


def test_a_changed_job_is_refused_with_the_key_that_differs(copy: Path) -> None:
    words = ["run", str(copy / "job.toml"), "-o", str(copy / "run"), "--resume"]
    done = mpirun(RANKS, ["-m", "clicooper_hpc", *words, "--set", "training.epochs=3"], cwd=copy)
    assert done.returncode == 2
    line = one_line(done.stderr)
    assert "training.epochs" in line
    assert "begun with 2" in line


@pytest.mark.matrix
def test_another_key_is_refused_with_its_rank(copy: Path) -> None:
    (copy / "run" / "private" / "rank-002" / "identity.pem").write_bytes(
        Identity.generate().to_pem()
    )
    done = resume(copy, RANKS)
    assert done.returncode == 2
    assert "rank 2 has the public key" in one_line(done.stderr)


@pytest.mark.matrix
def test_resume_changes_nothing_that_is_computed(copy: Path) -> None:
    done = resume(copy, RANKS, "training.epochs=3")
    assert done.returncode == 2
    assert "training.epochs" in one_line(done.stderr)


@pytest.mark.matrix
def test_signed_rows_that_are_gone_are_named(copy: Path) -> None:
    """A node lost them after the proof had gone out: the run ended, and never verified."""
    run = open_run(copy / "run")
    kept = stored(run, 1)
    kept["proving"] = {name: values[:-1] for name, values in kept["proving"].items()}
    rewrite(run, 1, kept)
    done = resume(copy, RANKS)
    assert done.returncode == 2, done.stderr
    assert "rows are missing that rank 1 has signed" in one_line(done.stderr)


@pytest.mark.parametrize(
    "names", [["ledger.json"], ["ledger.json", "receipts-train.bin", "receipts-validation.bin"]]
)
def test_a_lost_privacy_ledger_is_not_begun_anew(copy: Path, names: list[str]) -> None:
    """It once was, without a word: what had been paid was forgotten."""
    private = copy / "run" / "private"
    for name in names:
        (private / name).unlink()
    done = resume(copy, RANKS)
    assert done.returncode == 2
    assert "privacy ledger is missing or empty" in one_line(done.stderr)
    assert not any((private / name).exists() for name in names)


@pytest.mark.parametrize("name", ["master.key", "rank-001/mark.key"])
def test_a_lost_secret_is_named(copy: Path, name: str) -> None:
    (copy / "run" / "private" / name).unlink()
    done = resume(copy, RANKS)
    assert done.returncode == 2
    assert Path(name).name in one_line(done.stderr)


@pytest.mark.matrix
def test_a_machine_that_computes_other_rows_is_refused(copy: Path) -> None:
    probe = copy / "run" / "private" / "front.probe"
    probe.write_text("0" * 64)
    done = resume(copy, RANKS)
    assert done.returncode == 5
    assert "second release" in one_line(done.stderr)


def test_other_data_are_refused(copy: Path) -> None:
    """The release is bound to its data: others would be charged as a second release."""
    ledger = copy / "run" / "private" / "ledger.json"
    stored = json.loads(ledger.read_text())
    for entry in stored["entries"]:
        entry["release"] = "0" * 64
    ledger.write_text(json.dumps(stored))
    done = resume(copy, RANKS)
    assert done.returncode == 3
    assert "other data" in one_line(done.stderr)


def test_a_run_that_another_process_writes_is_left_alone(copy: Path) -> None:
    with (copy / "run" / ".lock").open("r+b") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = resume(copy, RANKS)
    assert done.returncode == 2
    assert "another process is writing this run" in one_line(done.stderr)


@pytest.mark.parametrize(
    ("made", "said"),
    [(True, "run.h5"), (False, "there is no such folder")],
    ids=["empty", "absent"],
)
def test_a_folder_without_a_run_is_named(tmp_path: Path, made: bool, said: str) -> None:
    folder = tmp_path / "nothing"
    if made:
        folder.mkdir()
    done = mpirun(2, ["-m", "clicooper_hpc", "resume", str(folder)])
    assert done.returncode == 2
    line = one_line(done.stderr)
    assert said in line
    assert str(folder) in line


def kind(name: str, *overrides: str) -> Any:
    return pytest.param(overrides, id=name)


@pytest.mark.matrix
@pytest.mark.parametrize(
    "overrides",
    [
        kind(
            "one-way",
            "pipeline.coupling=one-way",
            "training.optimizer=adamw",
            "training.learning_rate=1e-3",
        ),
        kind("no-cache", "release.cache=none", "training.average_rows=2"),
        kind("no-proofs", "provenance.enabled=false", "checkpoint.every_steps=3"),
        kind("anchors", "labels.method=anchors", "labels.expansion=8", "data.train_rows=180"),
        kind("single", "output.layout=single"),
    ],
)
def test_other_kinds_of_run_resume_to_the_bit_too(
    tmp_path: Path, overrides: tuple[str, ...]
) -> None:
    if "output.layout=single" in overrides and not h5py.get_config().mpi:
        pytest.skip("this h5py has no parallel HDF5")
    one = train(tmp_path, RANKS, *overrides, text=RESTART_JOB, name="whole")
    struck(tmp_path, RANKS, 2, "forward", 17, *overrides)
    assert open_run(tmp_path / "run").status == "incomplete"
    done = resume(tmp_path, RANKS)
    assert done.returncode == 0, done.stderr
    run = open_run(tmp_path / "run")
    for segment in (1, 2):
        ours, theirs = (
            (each.folder.delivery / f"segment-00{segment}.safetensors").read_bytes()
            for each in (run, one)
        )
        assert ours == theirs
    assert run.results["clean_accuracy"] == one.results["clean_accuracy"]
    assert list(run.table("steps", 1).index) == list(one.table("steps", 1).index)


@pytest.mark.matrix
def test_a_start_killed_before_anything_left_is_begun_anew(tmp_path: Path, whole: Run) -> None:
    (tmp_path / "job.toml").write_text(RESTART_JOB)
    run = tmp_path / "run"
    (run / "delivery").mkdir(parents=True)
    (run / "private").mkdir(mode=0o700)
    (run / "private" / "master.key").write_bytes(b"half a key")
    words = ["-m", "clicooper_hpc", "run", str(tmp_path / "job.toml"), "-o", str(run), "-q"]
    done = mpirun(RANKS, words, cwd=tmp_path)
    assert done.returncode == 2
    assert "holds files already" in one_line(done.stderr)
    done = mpirun(RANKS, [*words, "--resume"], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    check_same(open_run(run), whole)


@pytest.mark.matrix
def test_an_owner_with_an_older_ledger_than_was_shown_is_refused(copy: Path) -> None:
    """A restored backup would begin a second ledger; nobody takes part in that."""
    run = open_run(copy / "run")
    kept = stored(run, 0)
    kept["ledger"] = {name: values[:5] for name, values in kept["ledger"].items()}
    rewrite(run, 0, kept)
    done = resume(copy, RANKS)
    assert done.returncode == 4, done.stderr
    assert "the owner's ledger has" in one_line(done.stderr)


@pytest.mark.parametrize(
    ("index", "what", "version"),
    [
        # The first of all is read before anything acts on the job it vouches for.
        pytest.param(0, "run", 2, id="run"),
        pytest.param(-1, "ticket", 1, id="ticket"),
    ],
)
def test_a_ledger_of_another_version_is_refused_and_left_as_it_is(
    copy: Path, index: int, what: str, version: int
) -> None:
    run = open_run(copy / "run")
    owner = Identity.from_pem((run.folder.private / "rank-000" / "identity.pem").read_bytes())
    kept = stored(run, 0)
    # As another version stored it: whole, and signed by the same owner.
    places = [place for place, one in enumerate(kept["ledger"]["kind"]) if one == what.encode()]
    entry = places[index]
    payload = parse_envelope(bytes(kept["ledger"]["envelope"][entry])).payload
    named = re.compile(rb"urn:clicooper:%s:v\d+" % what.encode())
    other, count = named.subn(b"urn:clicooper:%s:v%d" % (what.encode(), version), payload)
    assert count == 1
    assert other != payload
    kept["ledger"]["envelope"][entry] = sign_envelope(other, owner).to_bytes()
    rewrite(run, 0, kept)
    before = files(copy / "run")
    done = resume(copy, RANKS)
    assert done.returncode == 4, done.stderr
    line = one_line(done.stderr)
    place = "run statement of the ledger" if index == 0 else f"ledger entry {entry}"
    assert f"{place}: the statement is of no kind known here" in line
    assert "If another version of clicooper began the run, go on with that one" in line
    assert files(copy / "run") == before


@pytest.mark.matrix
def test_a_lost_file_of_the_owner_is_named_and_costs_nothing(copy: Path, whole: Run) -> None:
    (copy / "run" / "rank-000.h5").rename(copy / "lost.h5")
    done = resume(copy, RANKS)
    # The ledger was in it: nothing is begun anew, and nothing is taken away.
    assert done.returncode == 4, done.stderr
    assert "the owner's ledger has 0 entries" in done.stderr
    assert [one.step for one in find_checkpoints(copy / "run")] == [5, 2]
    (copy / "lost.h5").rename(copy / "run" / "rank-000.h5")
    done = resume(copy, RANKS)
    assert done.returncode == 0, done.stderr
    check_same(open_run(copy / "run"), whole)
