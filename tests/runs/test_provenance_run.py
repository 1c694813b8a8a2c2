"""Proofs of whole runs on real ranks: what verifies, and what no longer does once it is touched."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from report_example import page_of, read_page
from securesystemslib.dsse import Envelope
from securesystemslib.signer import SSlibKey  # type: ignore[attr-defined]  # no __all__
from start import start, train

from clicooper_hpc.commands.keys import make_key_file
from clicooper_hpc.errors import ClicooperError, ExitCode, UsageError
from clicooper_hpc.provenance.identity import PublicIdentity
from clicooper_hpc.runstore.reader import Run, open_run
from clicooper_hpc.verification.marks.opening import write_mark_opening
from clicooper_hpc.verification.marks.search import load_search_tensors
from clicooper_hpc.verification.verification_report import verification_report

pytestmark = [pytest.mark.mpi, pytest.mark.slow]

JOB = """
[data]
path = "digits"
train_rows = 170
test_rows = 40
validation_rows = 10
[front]
kind = "random"
dim = 24
[privacy]
epsilon = 50.0
[labels]
expansion = 2
[model]
options = { widths = [256, 256, 256, 256] }
[pipeline]
micro_batches = 2
[training]
epochs = 3
batch_size = 32
[provenance]
stages = 3
mark_every_steps = 3
marks = "required"
[output]
record_wire = true
"""


#: What is opened while `watched` is on: an audit hook cannot be taken back.
_OPENED: list[str] = []
_WATCHING = [False]


def _note_opened(event: str, arguments: tuple[Any, ...]) -> None:
    if _WATCHING[0] and event in ("open", "os.listdir", "os.scandir"):
        _OPENED.append(str(arguments[0]))


@pytest.fixture
def opened() -> Iterator[list[str]]:
    """Paths that this process opens or lists while the test runs."""
    sys.addaudithook(_note_opened)
    _OPENED.clear()
    _WATCHING[0] = True
    yield _OPENED
    _WATCHING[0] = False


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train(tmp_path_factory.mktemp("honest"), 3, text=JOB)


def checks(run: Path, **options: object) -> tuple[list[int], ExitCode]:
    """Return the numbers of the failed checks and the exit code."""
    settings: dict[str, object] = {
        "owner_key": None,
        "trainer_keys": [],
        "mark_keys": [],
        "segment_file": None,
        **options,
    }
    text, code = verification_report(run, as_json=True, **settings)  # type: ignore[arg-type]
    found = json.loads(text)["checks"]
    return [check["number"] for check in found if check["passed"] is False], code


def copied(run: Run, folder: Path) -> Path:
    return Path(shutil.copytree(run.folder.path, folder / "copy"))


def test_an_honest_run_verifies(honest: Run) -> None:
    assert checks(honest.folder.path) == ([], ExitCode.DONE)


@pytest.mark.matrix
@pytest.mark.parametrize("coupling", ["backprop", "one-way"])
def test_every_coupling_verifies_without_marks_too(tmp_path: Path, coupling: str) -> None:
    run = train(tmp_path, 4, f"pipeline.coupling={coupling}", "release.cache=none")
    assert checks(run.folder.path) == ([], ExitCode.DONE)


def test_it_verifies_without_the_private_folder(honest: Run, tmp_path: Path) -> None:
    place = copied(honest, tmp_path)
    shutil.rmtree(place / "private")
    assert checks(place) == ([], ExitCode.DONE)


@pytest.mark.skipif(not h5py.get_config().mpi, reason="this h5py has no MPI")
def test_any_changed_value_in_a_single_file_fails_a_check(tmp_path: Path) -> None:
    """Every dataset, rewritten through HDF5; of shards the tamper matrix has a row for each."""
    place = copied(train(tmp_path, 3, "output.layout=single", text=JOB), tmp_path)
    found = 0
    for path in sorted(place.glob("*.h5")):
        original = path.read_bytes()
        names: list[str] = []

        def collect(name: str, item: object, into: list[str] = names) -> None:
            if isinstance(item, h5py.Dataset) and not item.is_virtual and item.size:
                into.append(name)

        with h5py.File(path, "r", locking=False) as file:
            file.visititems(collect)
        for name in names:
            with h5py.File(path, "r+", locking=False) as file:
                _change(file[name])
            assert _is_noticed(place), f"{path.name}:{name}"
            found += 1
            path.write_bytes(original)
    assert found > 60
    assert checks(place) == ([], ExitCode.DONE)


def _is_noticed(place: Path) -> bool:
    try:
        failed, code = checks(place)
    except ClicooperError as error:
        return error.exit_code in (ExitCode.USAGE, ExitCode.VERIFICATION)
    return bool(failed) and code == ExitCode.VERIFICATION


def _change(dataset: h5py.Dataset) -> None:
    value = dataset[()]
    array = np.array(value)
    flat = array.reshape(-1)
    # In layout single tables have places that were never written and that nobody reads.
    place = (
        np.count_nonzero(dataset.parent["complete"]) if "complete" in dataset.parent else 0
    ) - 1
    if array.dtype.kind == "S":
        text = bytearray(flat[place])
        if text:
            text[len(text) // 2] ^= 1
        flat[place] = bytes(text) or b"x"
    elif array.dtype.kind == "f":
        flat[place] = 0.125 if np.isnan(flat[place]) else -flat[place] - 1
    else:
        flat[place] = flat[place] ^ 1
    dataset[()] = array.astype(dataset.dtype) if array.ndim else flat[0]


@pytest.mark.parametrize(
    ("number", "act"),
    [
        (13, lambda run: _flip(run / "delivery" / "segment-002.safetensors")),
        (13, lambda run: (run / "delivery" / "segment-001.safetensors").unlink()),
        (14, lambda run: _flip(run / "checkpoints/stage-00001/segment-001.safetensors")),
        (
            14,
            lambda run: shutil.copy(
                run / "checkpoints/stage-00000/segment-001.safetensors",
                run / "checkpoints/stage-00002/segment-001.safetensors",
            ),
        ),
        (15, lambda run: (run / "rank-002.h5").unlink()),
        (15, lambda run: shutil.copy(run / "rank-001.h5", run / "rank-002.h5")),
    ],
    ids=["weights", "missing", "checkpoint", "old-checkpoint", "no-shard", "other-shard"],
)
def test_a_touched_file_fails_its_check(
    honest: Run, tmp_path: Path, number: int, act: Callable[[Path], object]
) -> None:
    place = copied(honest, tmp_path)
    act(place)
    failed, code = checks(place)
    assert number in failed
    assert code == ExitCode.VERIFICATION


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-3] ^= 0x10
    path.write_bytes(content)


def test_marks_are_found_with_their_keys_only(honest: Run, tmp_path: Path) -> None:
    keys = []
    for stage in range(3):
        keys.append(tmp_path / f"key-{stage}.json")
        write_mark_opening(honest.folder.path, segment=1, stage=stage, output=keys[-1])
        assert keys[-1].stat().st_mode & 0o777 == 0o600
    assert checks(honest.folder.path, mark_keys=keys) == ([], ExitCode.DONE)
    text, _ = verification_report(
        honest.folder.path,
        owner_key=None,
        trainer_keys=[],
        mark_keys=keys,
        segment_file=None,
        as_json=True,
    )
    for mark in json.loads(text)["marks"]:
        assert mark["errors"] == 0
        assert mark["log2_p"] < -64
    # Weights that never carried it: the same segment before it was trained.
    other = honest.folder.path / "delivery" / "segment-002.safetensors"
    assert load_search_tensors(other)
    _, code = checks(honest.folder.path, mark_keys=keys[:1], segment_file=other)
    assert code == ExitCode.VERIFICATION


def test_keys_from_files_and_whom_they_let_in(tmp_path: Path) -> None:
    public = [make_key_file(tmp_path / f"rank-{rank}.pem", encrypt=False) for rank in range(3)]
    stranger = make_key_file(tmp_path / "stranger.pem", encrypt=False)
    keys = [
        f"provenance.identities={tmp_path}/rank-{{rank}}.pem",
        f"provenance.owner={public[0]}",
    ]
    run = train(tmp_path, 3, *keys, f"provenance.trainers={json.dumps(public[1:])}")
    pinned = {"owner_key": public[0], "trainer_keys": public[1:]}
    assert checks(run.folder.path, **pinned) == ([], ExitCode.DONE)
    assert checks(run.folder.path, owner_key=stranger) == ([17], ExitCode.VERIFICATION)
    refused = start(
        tmp_path, 3, *keys, f"provenance.trainers={json.dumps([public[1], stranger])}", name="no"
    )
    assert refused.returncode == ExitCode.USAGE
    assert f"rank 2 has the public key {public[2]}" in refused.stderr
    assert not (tmp_path / "no").exists()


def test_a_segment_too_small_for_a_required_mark_is_refused(tmp_path: Path) -> None:
    done = start(tmp_path, 3, "provenance.marks=required")
    assert done.returncode == ExitCode.USAGE
    assert "too small for a mark" in done.stderr
    assert done.stderr.count("too small for a mark") == 1
    assert not (tmp_path / "run").exists()


def test_exported_proofs_are_read_by_standard_tools(honest: Run, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert checks(honest.folder.path, export=out) == ([], ExitCode.DONE)
    keys = {}
    for name in ("owner", "trainer-1", "trainer-2"):
        content = (out / f"{name}.pub.pem").read_bytes()
        key = PublicIdentity.from_pem(content)
        keys[key.keyid] = SSlibKey(key.keyid, "ed25519", "ed25519", {"public": key.raw.hex()})
    lines = (out / "proofs.intoto.jsonl").read_bytes().splitlines()
    assert len(lines) == 1 + 2 + 3 * 6 + 1
    kinds = set()
    for line in lines:
        envelope = Envelope.from_dict(json.loads(line))
        statement = json.loads(envelope.payload)
        assert statement["_type"] == "https://in-toto.io/Statement/v1"
        kinds.add(statement["predicateType"])
        for keyid, signature in envelope.signatures.items():
            keys[keyid].verify_signature(signature, envelope.pae())
    assert len(kinds) == 6
    with pytest.raises(UsageError, match="holds files already"):
        checks(honest.folder.path, export=out)


def test_a_run_without_proofs_says_so(tmp_path: Path) -> None:
    run = train(tmp_path, 2, "provenance.enabled=false")
    with pytest.raises(ClicooperError, match=r"made with provenance\.enabled = false"):
        checks(run.folder.path)


def test_a_mark_key_is_asked_for_with_a_suspect_file(honest: Run) -> None:
    with pytest.raises(UsageError, match="only be read with its key"):
        checks(honest.folder.path, segment_file=Path("x"))
    assert open_run(honest.folder.path).status == "complete"


@pytest.fixture(scope="module")
def report(honest: Run, tmp_path_factory: pytest.TempPathFactory) -> str:
    return page_of(honest.folder.path, out=tmp_path_factory.mktemp("page") / "page.html")


def test_the_report_says_what_was_reached_promised_and_verified(honest: Run, report: str) -> None:
    found = read_page(report)
    reached = f"{100 * float(honest.results['clean_accuracy']):.1f} %"
    assert f"The delivered network names {reached} of 40 held-out samples rightly" in found.text
    assert "guessing among 10 classes gives 10.0 %" in found.text
    assert "Verified: all 18 checks that apply passed" in found.text
    assert "Unit sample, relation replace-one, epsilon 50, delta 1e-05." in found.text
    for line in str(honest.privacy["text"]).splitlines():
        assert " ".join(line.split()) in found.text
    assert "6 of 6 proofs, 6 of 6 hand-offs, and the delivery." in found.text
    # Two segments: enrolment, three stages, delivery.
    cells = [attrs for tag, attrs in found.tags if tag == "td" and attrs.get("title")]
    assert [cell["class"] for cell in cells] == ["whole"] * 10
    assert [attrs["aria-label"] for tag, attrs in found.tags if tag == "svg"] == [
        "Training loss by step",
        "Accuracy by step beside its baselines",
        "Shares of step time by rank",
        "One computed step of the pipeline",
    ]


def test_the_report_asks_for_nothing_from_elsewhere(report: str) -> None:
    for tag, attributes in read_page(report).tags:
        assert tag not in ("script", "iframe", "object", "embed", "base")
        for name in ("src", "href", "xlink:href", "action", "srcset", "data"):
            target = attributes.get(name)
            assert target is None or target.startswith(("#", "data:")), (tag, target)
    assert set(re.findall(r"url\((.)", report)) == {"#"}
    assert "@import" not in report
    # One run; three are to stay below 5 MB.
    assert len(report.encode()) < 500_000


def test_the_report_opens_nothing_private_and_shows_no_path(
    honest: Run, report: str, tmp_path: Path, opened: list[str]
) -> None:
    again = page_of(honest.folder.path, out=tmp_path / "page.html")
    # The same run, the same bytes.
    assert again == report
    assert any("rank-000.h5" in path for path in opened)
    assert [path for path in opened if "/private" in path] == []
    assert str(honest.folder.path.parent) not in report
    assert honest.folder.path.parent.parent.name not in report


def test_the_report_of_a_tampered_run_names_the_failed_check(honest: Run, tmp_path: Path) -> None:
    place = copied(honest, tmp_path)
    segment = place / "delivery" / "segment-002.safetensors"
    content = segment.read_bytes()
    segment.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    text = read_page(page_of(place, out=tmp_path / "page.html")).text
    assert "NOT verified: check 13 (Delivery) failed: " in text
    assert "Verified: all" not in text
