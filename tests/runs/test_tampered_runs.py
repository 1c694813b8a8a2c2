"""The tamper matrix over everything a user reads of a finished run, each row with a full verify."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import pytest
from h5py import h5a, h5s, h5t
from start import train
from tampering import Tampering, copied, folder_tamperings, hdf5_tamperings, reseal

from clicooper_hpc.digests import digest_bytes
from clicooper_hpc.errors import ClicooperError, EvidenceError, ExitCode, RunFolderError
from clicooper_hpc.provenance.identity import PublicIdentity
from clicooper_hpc.run.finished_run import verify_finished_run
from clicooper_hpc.runstore.hdf5.files import set_hdf5_attributes
from clicooper_hpc.runstore.index import RunResult
from clicooper_hpc.runstore.index_end import finish_index
from clicooper_hpc.runstore.reader import Run, open_run
from clicooper_hpc.runstore.result_figures import RESULT_FIGURES
from clicooper_hpc.runstore.run_folder import RunFolder
from clicooper_hpc.verification.evidence import JOB_TAG
from clicooper_hpc.verification.run_evidence import collect_run_evidence, evidence_run_statement
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
PROOF_TABLES = ("ledger", "checkpoints", "heads", "messages", "proving")
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


def verified(path: Path, **pinned: object) -> tuple[dict[int, str], str, ExitCode]:
    """Return the failed checks with details, what is not covered or kept, and the exit code."""
    options: dict[str, object] = {"owner_key": None, "trainer_keys": [], "mark_keys": []}
    options["segment_file"] = None
    text, code = verification_report(path, as_json=True, **{**options, **pinned})  # type: ignore[arg-type]
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
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("part", range(PARTS))
def test_every_tampering_is_noticed_or_named(
    honest: Run, rows: list[Tampering], tmp_path: Path, part: int
) -> None:
    assert missed(honest, rows[part::PARTS], tmp_path / "copy") == []


# --- A file that cannot be read as what it should be ---------------------------------------------


def link_out(path: Path) -> None:
    os.mkfifo(path.parent.parent / "pipe")
    with h5py.File(path, "r+", locking=False) as file:
        del file["steps/step_s"]
        file["steps/step_s"] = h5py.ExternalLink("../pipe", "/x")


def put_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def put_link(path: Path) -> None:
    path.rename(path.parent.parent / path.name)
    path.symlink_to(path.parent.parent / path.name)


def put_device(path: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


def put_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


SPOILT: list[tuple[Callable[[Path], None], str]] = [
    (link_out, "is a link to '/x' in the file '../pipe'"),
    (put_pipe, "no regular file"),
    (put_link, "no regular file"),
    (put_device, "no regular file"),
    (put_folder, "no regular file"),
    (cut, "damaged or not HDF5"),
]


@pytest.mark.timeout(60)
@pytest.mark.parametrize(("spoil", "words"), SPOILT)
def test_a_trainers_file_that_cannot_be_read_fails_checks_and_is_named_alone(
    honest: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    spoil: Callable[[Path], None],
    words: str,
) -> None:
    copy = copied(honest.folder.path, tmp_path / "copy")
    # HDF5 would look for the sources of views here, too.
    monkeypatch.chdir(copy)
    spoil(copy / "rank-002.h5")
    for digests in ("old", "fitting", "none"):
        if digests == "fitting":
            reseal(copy)
        elif digests == "none":
            with h5py.File(copy / "run.h5", "r+", locking=False) as file:
                # As if there had never been any: the axes do not tell of them either.
                for axis in file["shard_digests"].dims:
                    for scale in list(axis.values()):
                        axis.detach_scale(scale)
                del file["shard_digests"], file["string64"]
        failed, _, code = verified(copy)
        assert code == ExitCode.VERIFICATION
        assert "rows of rank 2" in failed[15]
        assert "rank 1" not in failed[15]
        if digests == "none":
            assert "run.h5: /shard_digests is missing" in failed[19]
        else:
            assert failed[19].startswith("rank-002.h5: ")
            assert words in failed[19]
            assert "run.h5" not in failed[19]


def odd_number(path: Path) -> None:
    kind = h5t.STD_I32LE.copy()
    kind.set_size(3)
    with h5py.File(path, "r+", locking=False) as file:
        h5a.create(file["steps"].id, b"extra", kind, h5s.create(h5s.SCALAR))


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("spoil", "words"), [*SPOILT, (odd_number, "/steps@extra must not be there")]
)
def test_the_owner_names_the_file_before_it_calls_a_run_complete(
    honest: Run, tmp_path: Path, spoil: Callable[[Path], None], words: str
) -> None:
    copy = RunFolder(copied(honest.folder.path, tmp_path / "copy"))
    spoil(copy.shard(2))
    results = {
        name: RunResult(value, *RESULT_FIGURES[name]) for name, value in honest.results.items()
    }
    finish_index(copy.index, results=results)
    evidence = collect_run_evidence(open_run(copy.path), finished=True)
    signed = evidence_run_statement(evidence.entries)
    assert signed is not None
    keys = [PublicIdentity.from_raw(bytes.fromhex(key)) for key in (signed.owner, *signed.trainers)]
    with pytest.raises(EvidenceError) as caught:
        verify_finished_run(copy, keys)
    assert caught.value.exit_code == ExitCode.VERIFICATION
    assert "check 19 (HDF5 files) failed: rank-002.h5: " in str(caught.value)
    assert words in str(caught.value)
    failed, _, code = verified(copy.path)
    assert code == ExitCode.VERIFICATION
    assert failed[19].startswith("rank-002.h5: ")


# --- A run stripped of its proofs -----------------------------------------------------------------


def without_proofs_in_the_job(run: Path) -> None:
    """Have the job say that there are no proofs, and its digest beside it fit."""
    with h5py.File(run / "run.h5", "r+", locking=False) as file:
        job = json.loads(file.attrs["resolved_job"])
        job["provenance"]["enabled"] = False
        text = json.dumps(job, sort_keys=True, separators=(",", ":"))
        digest = digest_bytes(JOB_TAG, text.encode()).hex
        set_hdf5_attributes(file, {"resolved_job": text, "job_digest": digest})


def without_rows(run: Path, ranks: range, *tables: str) -> None:
    """Empty tables of some ranks."""
    for rank in ranks:
        with h5py.File(run / f"rank-{rank:03d}.h5", "r+", locking=False) as file:
            for name in (one for one in tables if one in file):
                for column in file[name].values():
                    # An axis of characters is no column.
                    if column.chunks is not None:
                        column.resize(0, axis=0)
    reseal(run)


STRIPPED: list[tuple[list[Callable[[Path], object]], str]] = [
    ([], "16 rows of table ledger of rank 0"),
    ([lambda run: without_rows(run, range(1), "ledger", "checkpoints")], "rows of table heads"),
    (
        [lambda run: without_rows(run, range(3), "ledger", "checkpoints", "heads")],
        "rows of table messages of rank 1",
    ),
    (
        [
            lambda run: without_rows(run, range(3), "ledger", "checkpoints", "heads"),
            lambda run: without_rows(run, range(3), "messages"),
        ],
        "2 rows of table proving of rank 1",
    ),
    ([lambda run: without_rows(run, range(3), *PROOF_TABLES)], "checkpoints/stage-00000"),
    (
        [
            lambda run: without_rows(run, range(3), *PROOF_TABLES),
            lambda run: shutil.rmtree(run / "checkpoints"),
        ],
        "private/rank-001/mark.key",
    ),
]


@pytest.mark.parametrize(("more", "trace"), STRIPPED)
def test_a_job_that_denies_its_proofs_is_contradicted_by_each_trace_of_them(
    honest: Run, tmp_path: Path, more: list[Callable[[Path], object]], trace: str
) -> None:
    copy = copied(honest.folder.path, tmp_path / "copy")
    without_proofs_in_the_job(copy)
    for one in more:
        one(copy)
    failed, _, code = verified(copy)
    assert code == ExitCode.VERIFICATION
    assert "job text: it says that the run has no proofs; there are " in failed[1]
    assert trace in failed[1]


def test_a_run_without_a_trace_of_proofs_fails_whoever_gives_a_key(
    honest: Run, tmp_path: Path
) -> None:
    copy = copied(honest.folder.path, tmp_path / "copy")
    without_proofs_in_the_job(copy)
    without_rows(copy, range(3), *PROOF_TABLES)
    shutil.rmtree(copy / "checkpoints")
    shutil.rmtree(copy / "private")
    with pytest.raises(RunFolderError, match="the run has no proofs"):
        verified(copy)
    key = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
    for pinned in ({"owner_key": key}, {"trainer_keys": [key]}):
        with pytest.raises(EvidenceError, match="no proofs to hold against the keys given"):
            verified(copy, **pinned)


def test_a_name_of_a_file_cannot_write_to_the_terminal(honest: Run, tmp_path: Path) -> None:
    copy = copied(honest.folder.path, tmp_path / "copy")
    (copy / "a\x1b[2Jb").write_text("")
    for number in range(20):
        (copy / f"notes-{number}.txt").write_text("")
    options: dict[str, object] = {"owner_key": None, "trainer_keys": [], "mark_keys": []}
    options["segment_file"] = None
    text, code = verification_report(copy, as_json=False, **options)  # type: ignore[arg-type]
    assert code == ExitCode.DONE
    assert "\x1b" not in text
    (line,) = [line for line in text.splitlines() if line.startswith("not covered: ")]
    assert r"a\x1b[2Jb" in line
    assert line.endswith("and 15 more (--json names all)")
