"""Runs of real ranks, honest and touched, before `verify` and the independent verifier."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from start import train
from test_provenance_run import JOB

from clicooper_hpc.errors import ClicooperError
from clicooper_hpc.verification.verification_report import verification_report

INDEPENDENT = Path(__file__).parents[1] / "verification" / "independent"
sys.path.append(str(INDEPENDENT))

from independent_checks import Verifier  # noqa: E402
from independent_facts import facts_of  # noqa: E402
from independent_formats import MismatchError  # noqa: E402

pytestmark = [pytest.mark.mpi, pytest.mark.slow]

#: Exit code and failed checks.
Verdict = tuple[int, frozenset[int]]


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(tmp_path_factory.mktemp("honest"), 3, text=JOB).folder.path


def judged_by_verify(folder: Path) -> Verdict:
    try:
        text, code = verification_report(
            folder, owner_key=None, trainer_keys=[], mark_keys=[], segment_file=None, as_json=True
        )
    except ClicooperError as error:
        return int(error.exit_code), frozenset()
    found = json.loads(text)["checks"]
    return int(code), frozenset(one["number"] for one in found if one["passed"] is False)


def judged_independently(folder: Path) -> tuple[Verdict, str]:
    try:
        report = Verifier(facts_of(folder)).report()
    except MismatchError as error:
        return (2, frozenset()), str(error)
    failed = {number: text for number, verdict, text in report if verdict == "FAILED"}
    return (4 if failed else 0, frozenset(failed)), str(failed)


def file_of(folder: Path, rank: int) -> Path:
    return folder / f"rank-{rank:03d}.h5"


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    with h5py.File(path, "r+", locking=False) as file:
        yield file


@contextmanager
def resealed(folder: Path, rank: int) -> Iterator[Any]:
    """Change a rank's file, and the digest of it in `run.h5`, which no key is needed for."""
    with opened(file_of(folder, rank)) as file:
        yield file
    digest = hashlib.sha256(b"clicooper/shard\x00" + file_of(folder, rank).read_bytes())
    with opened(folder / "run.h5") as file:
        file["shard_digests"][rank] = digest.hexdigest()


def flipped(path: Path, position: int = -3) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 0x10
    path.write_bytes(content)


def row(rank: int, name: str, value: object, *, at: int = -1) -> Callable[[Path], None]:
    def act(folder: Path) -> None:
        with resealed(folder, rank) as file:
            place = at % len(file[name])
            file[name][place] = value

    return act


def attribute(name: str, value: object, *, group: str = "/") -> Callable[[Path], None]:
    def act(folder: Path) -> None:
        with opened(folder / "run.h5") as file:
            old = file[group].attrs[name]
            file[group].attrs[name] = np.asarray(value, dtype=np.asarray(old).dtype)

    return act


def text_of(name: str, old: bytes, new: bytes) -> Callable[[Path], None]:
    """Put other words of the same length into a text of `run.h5`."""

    def act(folder: Path) -> None:
        with opened(folder / "run.h5") as file:
            stored = bytes(np.asarray(file[name][()]).flat[0])
            assert old in stored
            assert len(old) == len(new)
            file[name][()] = stored.replace(old, new, 1)

    return act


def job_text(old: bytes, new: bytes) -> Callable[[Path], None]:
    def act(folder: Path) -> None:
        with opened(folder / "run.h5") as file:
            text = bytes(file.attrs["resolved_job"])
            assert old in text
            file.attrs["resolved_job"] = np.bytes_(text.replace(old, new, 1))

    return act


def index_value(name: str, value: object) -> Callable[[Path], None]:
    def act(folder: Path) -> None:
        with opened(folder / "run.h5") as file:
            values = np.asarray(file[name][()])
            values.flat[0] = value
            file[name][...] = values

    return act


def replaced(rank: int, name: str, change: Callable[[Any], Any]) -> Callable[[Path], None]:
    """Store a column anew, in another form."""

    def act(folder: Path) -> None:
        with resealed(folder, rank) as file:
            values, about = file[name][()], dict(file[name].attrs)
            del file[name]
            file[name] = change(values)
            for key in ("units", "long_name"):
                file[name].attrs[key] = about[key]

    return act


def removed(rank: int, name: str) -> Callable[[Path], None]:
    def act(folder: Path) -> None:
        with resealed(folder, rank) as file:
            del file[name]

    return act


def copied(old: str, new: str) -> Callable[[Path], None]:
    def act(folder: Path) -> None:
        shutil.copy(folder / old, folder / new)

    return act


def unlinked(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


DELIVERED = "delivery/segment-{:03d}.safetensors".format
KEPT = "checkpoints/stage-{:05d}/segment-{:03d}.safetensors".format


def in_index(change: Callable[[Any], object]) -> Callable[[Path], None]:
    def act(folder: Path) -> None:
        with opened(folder / "run.h5") as file:
            change(file)

    return act


def in_shard(rank: int, change: Callable[[Any], object]) -> Callable[[Path], None]:
    def act(folder: Path) -> None:
        with resealed(folder, rank) as file:
            change(file)

    return act


def attribute_of(item: Any, name: str, text: str) -> None:
    """Put another text into an attribute, stored as the run stores texts."""
    item.attrs.create(name, text.encode(), dtype=h5py.string_dtype("utf-8", len(text.encode())))


def linked_again(name: str, link: object) -> Callable[[Any], None]:
    def change(file: Any) -> None:
        del file[name]
        file[name] = link

    return change


def header(name: str, change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    """Change the header of a safetensors file and leave the tensors' bytes alone."""

    def act(folder: Path) -> None:
        content = (folder / name).read_bytes()
        length = int.from_bytes(content[:8], "little")
        parsed = json.loads(content[8 : 8 + length])
        change(parsed)
        text = json.dumps(parsed, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        (folder / name).write_bytes(len(text).to_bytes(8, "little") + text + content[8 + length :])

    return act


def with_no_bytes(parsed: dict[str, Any], name: str) -> None:
    end = max(one["data_offsets"][1] for key, one in parsed.items() if key != "__metadata__")
    parsed[name] = {"dtype": "F32", "shape": [0], "data_offsets": [end, end]}


def copied_view(name: str, change: Callable[[Any], Any]) -> Callable[[Any], None]:
    """Put a copy of a view's values, changed, where the view was."""

    def act(file: Any) -> None:
        values, about = file[name][()], dict(file[name].attrs)
        del file[name]
        file[name] = change(values)
        for key in ("units", "long_name"):
            attribute_of(file[name], key, about[key].decode())

    return act


#: What is done to a run folder without any key, and the checks that fail.
TOUCHED: dict[str, tuple[Callable[[Path], Any], set[int]]] = {
    "private folder left out": (lambda run: shutil.rmtree(run / "private"), set()),
    "kept state left out": (unlinked(KEPT(1, 1)), set()),
    "bit of a delivered file": (lambda run: flipped(run / DELIVERED(2)), {13}),
    "delivered file missing": (unlinked(DELIVERED(1)), {13}),
    "delivered file of another segment": (copied(DELIVERED(1), DELIVERED(2)), {13}),
    "delivered file cut short": (
        lambda run: (run / DELIVERED(1)).write_bytes((run / DELIVERED(1)).read_bytes()[:-4]),
        {13},
    ),
    "text in a delivered file": (
        header(DELIVERED(1), lambda parsed: parsed["__metadata__"].update(accuracy="0.99")),
        {13},
    ),
    "segment number in a delivered file": (
        header(DELIVERED(1), lambda parsed: parsed["__metadata__"].update(segment="2")),
        {13},
    ),
    "tensor renamed in a delivered file": (
        header(DELIVERED(1), lambda parsed: parsed.update({"0.b": parsed.pop("0.bias")})),
        {13},
    ),
    "tensor more in a delivered file": (
        header(DELIVERED(1), lambda parsed: with_no_bytes(parsed, "zz")),
        {13},
    ),
    "bit of a kept state": (lambda run: flipped(run / KEPT(1, 1)), {14}),
    "kept state of another stage": (copied(KEPT(0, 1), KEPT(2, 1)), {14}),
    "text in a kept state": (
        header(KEPT(1, 1), lambda parsed: parsed.update(__metadata__={"stage": "9"})),
        {14},
    ),
    "tensor in a kept state that is no part of it": (
        header(KEPT(1, 1), lambda parsed: with_no_bytes(parsed, "zz")),
        {14},
    ),
    "owner's file missing": (unlinked("rank-000.h5"), {1}),
    "trainer's file missing": (unlinked("rank-002.h5"), {15, 16, 18}),
    "trainer's file of another": (copied("rank-001.h5", "rank-002.h5"), {15, 18, 19}),
    "trainer's file with a changed bit": (
        lambda run: flipped(file_of(run, 1), 200),
        {15, 16, 18, 19},
    ),
    "loss": (row(2, "training/loss", 0.001), {15}),
    "learning rate of the first step": (row(1, "training/learning_rate", 9.0, at=0), {15}),
    "step of a row": (row(1, "training/step", 10**6), {15}),
    "step of a row below all": (row(1, "steps/step", -7, at=0), {15}),
    "stage of a row": (row(1, "proving/stage", 77), {15}),
    "time": (row(2, "proving/mark_s", 0.0), {15}),
    "digest of a message": (row(2, "messages/digest", b"0" * 64), {15, 18}),
    "channel of a message": (row(2, "messages/channel", b"forward_out", at=0), {15, 18}),
    "stage of a message": (row(2, "messages/stage", 2, at=0), {15, 18}),
    "row marked as not written": (row(1, "training/complete", 0), {15, 19}),
    "row in the middle marked as not written": (row(1, "steps/complete", 0, at=3), {15, 19}),
    "owner's accuracy": (row(0, "evaluation/clean_accuracy", 1.0), {15}),
    "owner's epsilon": (row(0, "releases/epsilon", 0.1), {15}),
    "column as float32": (replaced(1, "training/loss", np.float32), {15, 19}),
    "column missing": (removed(1, "training/loss"), {15, 19}),
    "table missing": (removed(1, "proving"), {15, 19}),
    "table of the owner missing": (removed(0, "evaluation"), {15, 19}),
    "envelope": (row(0, "ledger/envelope", b"{}", at=3), {1}),
    "last envelope not written": (row(0, "ledger/complete", 0), {4, 5, 16, 19}),
    "kind beside an envelope": (row(0, "ledger/kind", b"stage", at=3), {15}),
    "stage beside an envelope": (row(0, "ledger/stage", 2, at=4), {15}),
    "signed checkpoint": (row(0, "checkpoints/note", b"x", at=1), {4}),
    "size beside a signed checkpoint": (row(0, "checkpoints/size", 5, at=1), {15}),
    "signed checkpoint not written": (row(0, "checkpoints/complete", 0), {4, 5, 15, 19}),
    "root in a trainer's head": (row(1, "heads/root", b"0" * 64), {16}),
    "size of a trainer's head": (row(1, "heads/size", 4, at=1), {15, 16}),
    "units of a column": (
        in_shard(1, lambda file: attribute_of(file["training/loss"], "units", "bit")),
        {19},
    ),
    "long name of a column": (
        in_shard(2, lambda file: attribute_of(file["steps/rows"], "long_name", "Samples")),
        {19},
    ),
    "remark on a column": (
        in_shard(1, lambda file: attribute_of(file["steps/rows"], "remark", "audited")),
        {19},
    ),
    "long name of a table": (
        in_shard(1, lambda file: attribute_of(file["steps"], "long_name", "x")),
        {19},
    ),
    "axis of a table": (
        in_shard(1, lambda file: attribute_of(file["training"], "axis", "loss")),
        {19},
    ),
    "rank in a rank's file": (in_shard(1, lambda file: file.attrs.modify("rank", 2)), {19}),
    "format of a rank's file": (
        in_shard(1, lambda file: attribute_of(file, "format", "clicooper-x")),
        {19},
    ),
    "dataset more in a rank's file": (
        in_shard(2, lambda file: file.create_dataset("training/accuracy", data=[0.99])),
        {15, 19},
    ),
    "group more in a rank's file": (in_shard(2, lambda file: file.create_group("audit")), {19}),
    "link more in a rank's file": (
        in_shard(2, lambda file: file.__setitem__("best", h5py.SoftLink("/training/loss"))),
        {19},
    ),
    "second name of a column": (
        in_shard(2, lambda file: file.__setitem__("steps/losses", file["steps/rows"])),
        {15, 19},
    ),
    "run id": (
        in_index(lambda file: attribute_of(file, "run_id", "f" * 32)),
        {1, 19},
    ),
    "job": (job_text(b'"epochs":3', b'"epochs":4'), {2}),
    "job that denies its proofs": (
        job_text(b'"provenance":{"enabled":true', b'"provenance":{"enabled":false'),
        {1},
    ),
    "job's digest": (in_index(lambda file: attribute_of(file, "job_digest", "0" * 64)), {2}),
    "commit": (in_index(lambda file: attribute_of(file, "git_commit", "0" * 40)), {15}),
    "restarts": (attribute("restarts", 3), {15}),
    "version": (in_index(lambda file: attribute_of(file, "torch_version", "9.9")), {15}),
    "status": (in_index(lambda file: attribute_of(file, "status", "incomplete")), {5}),
    "attribute more": (in_index(lambda file: attribute_of(file, "audited", "EXACT")), {15, 19}),
    "card of before the release": (text_of("privacy/promised", b"epsilon", b"epsilom"), {2}),
    "card": (text_of("privacy/card", b"epsilon", b"epsilom"), {15}),
    "entry of the card": (
        attribute("spec.guarantee.dimension", 7, group="privacy"),
        {15},
    ),
    "host": (index_value("hosts", b"x"), {15}),
    "cuts": (index_value("pipeline/cuts", 1), {15}),
    "layer's name": (index_value("pipeline/layer_names", b"x"), {15}),
    "schedule": (text_of("pipeline/schedule", b"1:", b"2:"), {15}),
    "result": (index_value("results/clean_accuracy", 1.0), {15}),
    "result missing": (in_index(lambda file: file.__delitem__("results/clean_loss")), {15}),
    "result more": (
        in_index(lambda file: file.create_dataset("results/audited", data=1.0)),
        {15, 19},
    ),
    "units of a result": (
        in_index(lambda file: attribute_of(file["results/clean_loss"], "units", "bit")),
        {19},
    ),
    "number of a layer": (index_value("pipeline/layer", 5), {15}),
    "number of a segment": (index_value("pipeline/segment", 5), {15}),
    "view replaced by other values": (
        in_index(copied_view("metrics/loss", lambda values: values / 2)),
        {19},
    ),
    "view replaced by its values": (
        in_index(copied_view("metrics/loss", lambda values: values)),
        {19},
    ),
    "view missing": (in_index(lambda file: file.__delitem__("metrics/epoch")), {19}),
    "units of a view": (
        in_index(lambda file: attribute_of(file["metrics/step_s"], "units", "ms")),
        {19},
    ),
    "evaluation that leads elsewhere": (
        in_index(linked_again("evaluation", h5py.SoftLink("/ranks/001/training"))),
        {19},
    ),
    "rank that leads to another rank": (
        in_index(linked_again("ranks/002", h5py.ExternalLink("rank-001.h5", "/"))),
        {19},
    ),
    "dataset more in run.h5": (
        in_index(lambda file: file.create_dataset("audit", data=1)),
        {19},
    ),
}

#: Where a rank's file lacks something, how much else of it still counts as read is no part of the
#: format: check 16 or 18 may fail beside 15 and 19.
MALFORMED = {"column as float32", "column missing", "table missing", "table of the owner missing"}
#: In every run of the tests: one of each kind. All others: `make test-all`.
CHEAP = (
    "kept state left out", "bit of a delivered file", "text in a kept state",
    "trainer's file missing", "loss", "digest of a message", "root in a trainer's head",
    "units of a column", "job that denies its proofs", "result", "evaluation that leads elsewhere",
)  # fmt: skip
ALL = [
    pytest.param(name, marks=() if name in CHEAP else pytest.mark.matrix, id=name)
    for name in TOUCHED
]


def test_an_honest_run_passes_both(honest: Path) -> None:
    found, text = judged_independently(honest)
    assert found == judged_by_verify(honest) == (0, frozenset()), text


@pytest.mark.parametrize("name", ALL)
def test_both_refuse_a_touched_run_for_the_same_reason(
    name: str, honest: Path, tmp_path: Path
) -> None:
    act, fails = TOUCHED[name]
    folder = Path(shutil.copytree(honest, tmp_path / "run"))
    act(folder)
    (code, mine), text = judged_independently(folder)
    theirs = judged_by_verify(folder)
    allowed = {16, 18} if name in MALFORMED else set()
    assert theirs[0] == code == (4 if fails else 0), text
    assert theirs[1] - allowed == mine - allowed == fails - allowed, text


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
