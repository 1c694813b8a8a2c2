"""The owner's private files, damaged in every kind of way: one line that names the file."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
from safetensors.numpy import load, save

from clicooper_hpc.errors import ClicooperError, RunFolderError
from clicooper_hpc.fronts.front import Front, assemble_front
from clicooper_hpc.fronts.origin import FrontOrigin
from clicooper_hpc.fronts.untrained import untrained_dct
from clicooper_hpc.owner.evaluation import CleanScores, Score
from clicooper_hpc.owner.final_scores import FinalScores, keep_final_scores
from clicooper_hpc.owner.input_facts import InputFacts
from clicooper_hpc.owner.secrets import OwnerSecrets
from clicooper_hpc.privacy.accounting import Charge
from clicooper_hpc.privacy.label_map import LabelMap
from clicooper_hpc.privacy.master_key import MasterKey
from clicooper_hpc.privacy.privacy_ledger import PrivacyBudget, PrivacyEvent, PrivacyLedger
from clicooper_hpc.privacy.receipts import ReleaseReceipts
from clicooper_hpc.runstore.private_folder import PrivateFolder
from clicooper_hpc.runstore.safetensors_files import pack_safetensors

KEY = MasterKey.from_seed(9)
SEAL_KEY = bytes(32)
DEEP = b"[" * 100_000
FINAL = FinalScores(CleanScores(Score(0.5, 0.25, 10)), Score(0.5, 0.125, 10), 3.5, ("0" * 64,))

Change = Callable[[dict[str, Any]], object]


def never() -> NoReturn:
    raise AssertionError("made anew although it is there")


@pytest.fixture
def folder(tmp_path: Path) -> PrivateFolder:
    return PrivateFolder(tmp_path / "private")


def check_refused(read: Callable[[], object], folder: PrivateFolder, name: str) -> None:
    with pytest.raises(RunFolderError) as caught:
        read()
    line = caught.value.line()
    assert line.startswith(f"{folder.path / name}: ")
    assert "Bring back the file the run wrote" in line


def stored_ledger() -> dict[str, Any]:
    charge = Charge.approximate(1.0, 1e-6, "zero-out")
    ledger = PrivacyLedger(PrivacyBudget(9.0, 1e-5))
    event = PrivacyEvent("front-training", "train", 5, "r", "DP-SGD", "sample", charge, charge)
    ledger.authorise_event(event)
    return ledger.to_dict()


LEDGER_CHANGES: dict[str, Change] = {
    "no entries": lambda stored: stored.pop("entries"),
    "entries are no list": lambda stored: stored.update(entries=5),
    "a budget of another type": lambda stored: stored.update(budget=[1]),
    "a budget beyond all numbers": lambda stored: stored["budget"].update(epsilon=10**400),
    "a charge beyond all numbers": lambda s: s["entries"][0]["charge"].update(mu=10**400),
    "a charge of another type": lambda s: s["entries"][0].update(charge=True),
    "samples that are no number": lambda s: s["entries"][0].update(samples="5"),
    "samples below none": lambda s: s["entries"][0].update(samples=-1),
    "an unknown field": lambda s: s["entries"][0].update(more=1),
    "an entry twice": lambda s: s["entries"].append(s["entries"][0]),
    "a number spelt otherwise": lambda s: s["entries"][0]["charge"].update(epsilon="1.00"),
}


@pytest.mark.parametrize("name", LEDGER_CHANGES)
def test_a_damaged_ledger_is_refused(name: str, folder: PrivateFolder) -> None:
    stored = stored_ledger()
    folder.write_secret("ledger.json", json.dumps(stored).encode())
    assert OwnerSecrets(folder).secret_ledger(None).to_dict() == stored
    LEDGER_CHANGES[name](stored)
    folder.write_secret("ledger.json", json.dumps(stored).encode())
    check_refused(lambda: OwnerSecrets(folder).secret_ledger(None), folder, "ledger.json")


@pytest.mark.parametrize("content", [DEEP, b"\xff", b"5", b"null", b"", b"9" * 5000])
def test_what_is_no_ledger_is_refused(content: bytes, folder: PrivateFolder) -> None:
    folder.write_secret("ledger.json", content)
    check_refused(lambda: OwnerSecrets(folder).secret_ledger(None), folder, "ledger.json")


def changed_map(**header: object) -> bytes:
    tensors = load(LabelMap.draw_label_map("random", 3, 4, KEY).to_private_bytes())
    written = {**json.loads(tensors["header"].tobytes()), **header}
    tensors["header"] = np.frombuffer(json.dumps(written).encode(), dtype=np.uint8)
    return save(tensors)


LABEL_MAPS: dict[str, bytes] = {
    "nothing": b"",
    "no tensors": pack_safetensors({}, {}),
    "a cut file": changed_map()[:-1],
    "a header that is no JSON": save({"header": np.zeros(3, np.uint8)}),
    "a header that is a list": save({"header": np.frombuffer(b"[1]", np.uint8)}),
    "a header nested deeply": save({"header": np.frombuffer(DEEP, np.uint8)}),
    "another format": changed_map(format="clicooper label map 2"),
    "classes that are no number": changed_map(num_classes="3"),
    "a truth value for a number": changed_map(expansion=True),
    "more names than numbers": changed_map(num_classes=2**30, expansion=1),
    "an unknown method": changed_map(method="other"),
    "anchors that are not there": changed_map(step="1.0", shift=0),
    "another order of keys": changed_map(expansion=4, unknown=1),
}


@pytest.mark.parametrize("name", LABEL_MAPS)
def test_a_damaged_label_map_is_refused(name: str, folder: PrivateFolder) -> None:
    folder.write_secret("label-map.safetensors", LABEL_MAPS[name])
    check_refused(
        lambda: OwnerSecrets(folder).secret_label_map(never), folder, "label-map.safetensors"
    )


def test_receipts_of_any_number_of_samples_reserve_nothing(folder: PrivateFolder) -> None:
    """Under a right seal: what only a bug of ours could write."""
    good = ReleaseReceipts(20, SEAL_KEY)
    body = bytearray(good.to_bytes()[:-16])
    at = len(b"clicooper receipts 1\n")
    for number in (0, 19, 21, 2**40, 2**63, 2**64 - 1):
        body[at : at + 8] = number.to_bytes(8, "little")
        folder.write_secret("receipts-train.bin", bytes(body) + good._seal(bytes(body)))
        check_refused(
            lambda: OwnerSecrets(folder).secret_receipts("train", 20, SEAL_KEY),
            folder,
            "receipts-train.bin",
        )


def small_front() -> Front:
    origin = FrontOrigin("fixed-basis", "DCT")
    return assemble_front((1, 4, 4), untrained_dct((1, 4, 4), 3), origin)


FRONT_CHANGES: dict[str, Change] = {
    "no operations": lambda stored: stored.pop("stages"),
    "operations that are no list": lambda stored: stored.update(stages=1),
    "an operation that is a text": lambda stored: stored.update(stages=["clamp"]),
    "a size beyond all numbers": lambda stored: stored.update(input_shape=[float("inf")]),
    "a size below none": lambda stored: stored.update(input_shape=[-1]),
    "an origin of another type": lambda stored: stored.update(provenance=[1]),
    "another digest": lambda stored: stored.update(digest="0" * 64),
}


@pytest.mark.parametrize("name", FRONT_CHANGES)
def test_a_damaged_front_is_refused(name: str, folder: PrivateFolder) -> None:
    front = small_front()
    stored = json.loads(front.front_settings())
    folder.write_secret("front.safetensors", pack_safetensors(front.front_tensors(), {}))
    folder.write_secret("front.json", json.dumps(stored).encode())
    assert OwnerSecrets(folder).secret_front(never).digest == front.digest
    FRONT_CHANGES[name](stored)
    folder.write_secret("front.json", json.dumps(stored).encode())
    check_refused(lambda: OwnerSecrets(folder).secret_front(never), folder, "front.json")


def test_damaged_weights_of_a_front_are_named(folder: PrivateFolder) -> None:
    front = small_front()
    tensors = front.front_tensors()
    folder.write_secret("front.json", front.front_settings().encode())
    folder.write_secret("front.safetensors", pack_safetensors(tensors, {})[:-1])
    check_refused(lambda: OwnerSecrets(folder).secret_front(never), folder, "front.safetensors")
    # Whole, but of another front: either file may be the wrong one.
    others = {name: tensor + 1 for name, tensor in tensors.items()}
    folder.write_secret("front.safetensors", pack_safetensors(others, {}))
    with pytest.raises(RunFolderError, match=r"front\.json: .*or front\.safetensors beside it"):
        OwnerSecrets(folder).secret_front(never)


@pytest.mark.parametrize("content", [DEEP, b"\xff", b"5", b""])
def test_what_is_no_front_is_refused(content: bytes, folder: PrivateFolder) -> None:
    folder.write_secret("front.safetensors", pack_safetensors({}, {}))
    folder.write_secret("front.json", content)
    with pytest.raises(ClicooperError):
        OwnerSecrets(folder).secret_front(never)


SCORE_CHANGES: dict[str, Change] = {
    "no scores": lambda stored: stored.pop("clean"),
    "scores that are a list": lambda stored: stored.update(clean=[[1]]),
    "a text for a score": lambda stored: stored.update(clean="a"),
    "an accuracy that is a text": lambda stored: stored["released"].update(accuracy="1"),
    "samples that are no count": lambda stored: stored["released"].update(samples=1.5),
    "a time beyond all numbers": lambda stored: stored.update(wall_s=10**400),
    "segments that are none": lambda stored: stored.update(segments=None),
}


@pytest.mark.parametrize("name", SCORE_CHANGES)
def test_damaged_scores_are_refused(name: str, folder: PrivateFolder) -> None:
    stored = asdict(FINAL)
    folder.write_secret("ending.json", json.dumps(stored).encode())
    assert keep_final_scores(folder, FINAL) == FINAL
    SCORE_CHANGES[name](stored)
    folder.write_secret("ending.json", json.dumps(stored).encode())
    check_refused(lambda: keep_final_scores(folder, FINAL), folder, "ending.json")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        DEEP,
        b'{"class_names": ["a", "a"], "stored_as": "uint8", "lowest": 0.0, "highest": 1.0}',
        b'{"class_names": ["a", "b"], "stored_as": "uint8", "lowest": "x", "highest": 1.0}',
        b'{"class_names": ["a", "b"], "stored_as": "uint8", "lowest": 0.0, "highest": 1.0, "x": 1}',
    ],
)
def test_damaged_facts_of_the_samples_are_refused(content: bytes, folder: PrivateFolder) -> None:
    facts = InputFacts(("a", "b"), "uint8", 0.0, 1.0)
    assert OwnerSecrets(folder).secret_input_facts(lambda: facts) == facts
    assert OwnerSecrets(folder).secret_input_facts(never) == facts
    folder.write_secret("input.json", content)
    check_refused(OwnerSecrets(folder).stored_input_facts, folder, "input.json")
