"""Runs of real ranks, honest and touched, before `verify` and the independent verifier."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import pytest
from start import train
from tampering import Tampering, folder_tamperings, hdf5_tamperings, reseal
from test_tampered_runs import JOB
from two_ledgers import (
    evidence_of_notes,
    evidence_of_proofs,
    evidence_that_is_none,
    other_note_beside_a_head,
)

from clicooper_hpc.commands.keys import make_key_file
from clicooper_hpc.errors import ClicooperError
from clicooper_hpc.runstore.checkpoints import (
    commit_checkpoint,
    find_checkpoints,
    store_checkpoint_file,
)
from clicooper_hpc.verification.marks.opening import write_mark_opening
from clicooper_hpc.verification.verification_report import verification_report

sys.path.append(str(Path(__file__).parents[1] / "verification" / "independent"))

from independent_checks import Verifier
from independent_facts import facts_of
from independent_formats import MismatchError, read_safetensors
from independent_marks import read_mark
from independent_restart import look_at_restart, read_restart_index

pytestmark = [pytest.mark.mpi, pytest.mark.slow]

#: Exit code and failed checks.
Verdict = tuple[int, frozenset[int]]
#: So many parts has the walk over every object of a run, each a test of its own.
PARTS = 12
#: The check of what the HDF5 files hold.
HDF5_FILES = 19


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(tmp_path_factory.mktemp("honest"), 3, text=JOB).folder.path


def judged_by_verify(
    folder: Path, owner: str | None = None, trainers: list[str] | None = None
) -> Verdict:
    try:
        text, code = verification_report(
            folder,
            owner_key=owner,
            trainer_keys=trainers or [],
            mark_keys=[],
            segment_file=None,
            as_json=True,
        )
    except ClicooperError as error:
        return int(error.exit_code), frozenset()
    found = json.loads(text)["checks"]
    return int(code), frozenset(one["number"] for one in found if one["passed"] is False)


def judged_independently(
    folder: Path, owner: str | None = None, trainers: list[str] | None = None
) -> tuple[Verdict, str]:
    try:
        report = Verifier(facts_of(folder, owner, trainers)).report()
    except MismatchError as error:
        return (2, frozenset()), str(error)
    failed = {number: text for number, verdict, text in report if verdict == "FAILED"}
    return (4 if failed else 0, frozenset(failed)), str(failed)


def agree(theirs: Verdict, mine: Verdict) -> bool:
    """Equal; but of a file that is not as it must be, how much still counts as read is open.

    Then both refuse: each by the check of what the files hold, or as what is no run at all.
    """
    if theirs == mine:
        return True
    return all(code == 2 or HDF5_FILES in failed for code, failed in (theirs, mine))


def row(rank: int, name: str, value: object, *, at: int = -1) -> Callable[[Path], None]:
    """Put a value into a table of a rank, and make the unsigned digest of its file fit."""

    def act(folder: Path) -> None:
        with h5py.File(folder / f"rank-{rank:03d}.h5", "r+", locking=False) as file:
            file[name][at % len(file[name])] = value
        reseal(folder)

    return act


def job_text(old: str, new: str) -> Callable[[Path], None]:
    def act(folder: Path) -> None:
        with h5py.File(folder / "run.h5", "r+", locking=False) as file:
            text = bytes(file.attrs["resolved_job"]).decode()
            assert old in text
            text = text.replace(old, new, 1)
            kind = h5py.string_dtype("utf-8", len(text.encode()))
            file.attrs.create("resolved_job", text.encode(), dtype=kind)

    return act


def halved_view(folder: Path) -> None:
    """Put half of a view's values where the view was."""
    with h5py.File(folder / "run.h5", "r+", locking=False) as file:
        values, about = file["metrics/loss"][()], dict(file["metrics/loss"].attrs)
        del file["metrics/loss"]
        file["metrics/loss"] = values / 2
        for key in ("units", "long_name"):
            file["metrics/loss"].attrs[key] = about[key]


def copied(old: str, new: str) -> Callable[[Path], None]:
    def act(folder: Path) -> None:
        shutil.copy(folder / old, folder / new)

    return act


def cut_short(folder: Path) -> None:
    path = folder / DELIVERED(1)
    path.write_bytes(path.read_bytes()[:-4])


DELIVERED = "delivery/segment-{:03d}.safetensors".format
KEPT = "checkpoints/stage-{:05d}/segment-{:03d}.safetensors".format

#: What is done to a run folder, and the checks that fail: without any key but for two signatures of
#: the owner's. Every object of the
#: folder changed, removed or added is the matter of the walk below.
TOUCHED: dict[str, tuple[Callable[[Path], Any], set[int]]] = {
    "private folder left out": (lambda run: shutil.rmtree(run / "private"), set()),
    "delivered file of another segment": (copied(DELIVERED(1), DELIVERED(2)), {13}),
    "delivered file cut short": (cut_short, {13}),
    "kept state of another stage": (copied(KEPT(0, 1), KEPT(1, 1)), {14}),
    "trainer's file of another": (copied("rank-001.h5", "rank-002.h5"), {15, 16, 18, 19}),
    "loss": (row(2, "training/loss", 0.001), {15, 19}),
    "step of a row": (row(1, "training/step", 10**6), {15, 19}),
    "step of a row below all": (row(1, "steps/step", -7, at=0), {15, 19}),
    "stage of a row": (row(1, "proving/stage", 77), {15, 19}),
    "channel of a message": (row(2, "messages/channel", b"forward_out", at=0), {15, 18, 19}),
    "stage of a message": (row(2, "messages/stage", 1, at=0), {15, 18, 19}),
    "root in a head": (row(1, "heads/root", b"0" * 64), {16, 19}),
    "note beside a head": (row(1, "heads/note", b"0" * 64), {16, 19}),
    "owner's note of another ledger": (other_note_beside_a_head, {16, 19}),
    "evidence of two ledgers": (evidence_of_notes(bytes(32), b"1" * 32), {16}),
    "evidence of one ledger": (evidence_of_notes(bytes(32), bytes(32)), set()),
    "evidence of two proofs": (evidence_of_proofs(weights_out="12" * 32), {16}),
    "evidence of proofs of two starts": (evidence_of_proofs(start="12" * 32), set()),
    "evidence that is none": (evidence_that_is_none, set()),
    "row marked as not written": (row(1, "training/complete", 0), {15, 19}),
    "row in the middle marked as not written": (row(1, "steps/complete", 0, at=3), {15, 19}),
    "last envelope not written": (row(0, "ledger/complete", 0), {4, 5, 16, 19}),
    "signed checkpoint not written": (row(0, "checkpoints/complete", 0), {4, 5, 15, 19}),
    "job": (job_text('"epochs":2', '"epochs":3'), {2}),
    "job that denies its proofs": (
        job_text('"provenance":{"enabled":true', '"provenance":{"enabled":false'),
        {1},
    ),
    "view replaced by other values": (halved_view, {19}),
}
#: In every run of the tests: one of each kind. All others: `make test-all`.
CHEAP = {
    "private folder left out",
    "delivered file of another segment",
    "kept state of another stage",
    "channel of a message",
    "evidence of two ledgers",
    "evidence of two proofs",
    "evidence that is none",
    "last envelope not written",
    "job that denies its proofs",
    "view replaced by other values",
}


def test_an_honest_run_passes_both(honest: Path) -> None:
    found, text = judged_independently(honest)
    assert found == judged_by_verify(honest) == (0, frozenset()), text


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in CHEAP else pytest.mark.matrix, id=name)
        for name in TOUCHED
    ],
)
def test_both_refuse_a_touched_run_for_the_same_reason(
    name: str, honest: Path, tmp_path: Path
) -> None:
    act, fails = TOUCHED[name]
    folder = Path(shutil.copytree(honest, tmp_path / "run"))
    act(folder)
    found, text = judged_independently(folder)
    assert found == judged_by_verify(folder) == (4 if fails else 0, frozenset(fails)), text


def walk(folder: Path) -> list[Tampering]:
    rows = list(folder_tamperings(folder))
    for name in ("run.h5", "rank-000.h5", "rank-001.h5"):
        rows += hdf5_tamperings(folder, name)
    return rows


@pytest.mark.matrix
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("part", range(PARTS))
def test_both_agree_on_every_object_of_a_run(honest: Path, tmp_path: Path, part: int) -> None:
    wrong = []
    for one in walk(honest)[part::PARTS]:
        folder = tmp_path / "run"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(honest, folder)
        one.act(folder)
        mine, text = judged_independently(folder)
        theirs = judged_by_verify(folder)
        if not agree(theirs, mine):
            wrong.append(f"{one.name}: verify {theirs}, independent {mine} {text}")
    assert wrong == []


def test_a_restart_and_the_page_take_the_same_checkpoints(honest: Path, tmp_path: Path) -> None:
    """The seals hold as docs/provenance.md says; what one passes over, the other does too."""
    verifier = Verifier(facts_of(honest))
    verifier.report()
    said = verifier.statement
    keys, run_id = [said["owner"], *said["trainers"]], said["run_id"]
    one, other = sorted(Path(shutil.copytree(honest, tmp_path / "run")).glob("checkpoints/step-*"))
    assert [look_at_restart(folder, keys, run_id) for folder in (one, other)] == [5, 5]
    with pytest.raises(MismatchError, match="rank 1 sealed something else"):
        look_at_restart(one, [keys[0], keys[2], keys[1]], run_id)
    # A state put in by somebody without keys, with a list made to fit.
    (found,) = (each for each in find_checkpoints(tmp_path / "run") if each.folder == one)
    state = store_checkpoint_file(tmp_path / "run", found.step, "segment-001.safetensors", b"other")
    files = {**found.files, "segment-001.safetensors": state}
    commit_checkpoint(
        tmp_path / "run", run_id=run_id, step=found.step, files=files, seals=found.seals, keep=9
    )
    with pytest.raises(MismatchError, match="rank 0 sealed something else"):
        look_at_restart(one, keys, run_id)
    # No checkpoint at all to a restart.
    index = other / "index.json"
    content = json.loads(index.read_bytes())
    for changed in (
        {**content, "version": 1},
        {**content, "step": content["step"] + 1},
        {**content, "seals": []},
    ):
        index.write_text(json.dumps(changed))
        assert all(each.folder != other for each in find_checkpoints(tmp_path / "run"))
        with pytest.raises(MismatchError, match=r"another version|a changed index"):
            read_restart_index(other)


def test_both_read_the_same_in_opened_marks(honest: Path, tmp_path: Path) -> None:
    verifier = Verifier(facts_of(honest))
    verifier.report()
    for segment, stage in ((1, 0), (2, 1)):
        opening = tmp_path / f"mark-{segment}.json"
        write_mark_opening(honest, segment=segment, stage=stage, output=opening)
        text, code = verification_report(
            honest,
            owner_key=None,
            trainer_keys=[],
            mark_keys=[opening],
            segment_file=None,
            as_json=True,
        )
        (theirs,) = json.loads(text)["marks"]
        tensors, _ = read_safetensors((honest / DELIVERED(segment)).read_bytes())
        mine = read_mark(opening.read_bytes(), verifier, tensors)
        assert code == 0
        assert mine.errors == theirs["errors"] == 0
        assert mine.statistic == pytest.approx(theirs["statistic"])
        assert mine.log2_p == pytest.approx(theirs["log2_p"])
        # Another segment's key is not the one enrolled.
        other = json.loads(opening.read_bytes()) | {"segment": 3 - segment}
        with pytest.raises(MismatchError, match="not the key enrolled"):
            read_mark(json.dumps(other, separators=(",", ":")).encode(), verifier, tensors)


@pytest.mark.matrix
@pytest.mark.parametrize(
    ("ranks", "settings"),
    [
        (4, ("pipeline.coupling=one-way", "release.cache=none")),
        (2, ("provenance.marks=off", "training.optimizer=adamw", "provenance.stages=2")),
        (3, ("provenance.keep_checkpoints=false", "pipeline.wire_dtype=bfloat16")),
    ],
)
def test_honest_runs_of_other_kinds_pass_both(
    ranks: int, settings: tuple[str, ...], tmp_path: Path
) -> None:
    folder = train(tmp_path, ranks, *settings).folder.path
    found, text = judged_independently(folder)
    assert found == judged_by_verify(folder) == (0, frozenset()), text


@pytest.mark.matrix
def test_both_insist_on_the_keys_that_are_given(tmp_path: Path) -> None:
    public = [make_key_file(tmp_path / f"rank-{rank}.pem", encrypt=False) for rank in range(3)]
    folder = train(
        tmp_path,
        3,
        f"provenance.identities={tmp_path}/rank-{{rank}}.pem",
        f"provenance.owner={public[0]}",
        f"provenance.trainers={json.dumps(public[1:])}",
    ).folder.path
    for owner, trainers, code in (
        (public[0], public[1:], 0),
        (public[1], None, 4),
        (None, public[:0:-1], 4),
        (None, public[1:2], 4),
    ):
        found, text = judged_independently(folder, owner, trainers)
        assert found == judged_by_verify(folder, owner, trainers), text
        assert found == (code, frozenset({17} if code else ()))
