"""Readers of the owner's private state: key, front, label map, receipts, ledger, scores."""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import NoReturn

import numpy as np
import torch
from fuzz_target import FuzzTarget

from clicooper_hpc.fronts.front import Front, assemble_front
from clicooper_hpc.fronts.operations import Scores
from clicooper_hpc.fronts.origin import FrontOrigin
from clicooper_hpc.fronts.untrained import untrained_dct
from clicooper_hpc.owner.evaluation import CleanScores, MomentBaselines, Score
from clicooper_hpc.owner.final_scores import FinalScores, keep_final_scores
from clicooper_hpc.owner.input_facts import InputFacts
from clicooper_hpc.owner.moment_model import MomentModel
from clicooper_hpc.owner.moments_release import MomentsRelease
from clicooper_hpc.owner.secrets import OwnerSecrets
from clicooper_hpc.owner.synthetic_rows import SyntheticRows
from clicooper_hpc.privacy.accounting import Charge
from clicooper_hpc.privacy.label_map import LabelMap
from clicooper_hpc.privacy.master_key import MasterKey
from clicooper_hpc.privacy.privacy_ledger import PrivacyBudget, PrivacyEvent, PrivacyLedger
from clicooper_hpc.privacy.receipts import ReleaseReceipts
from clicooper_hpc.runstore.private_folder import PrivateFolder
from clicooper_hpc.runstore.run_folder import LEDGER_FILE
from clicooper_hpc.runstore.safetensors_files import pack_safetensors

_KEY = MasterKey.from_seed(9)
_SEAL_KEY = bytes(32)
_FINAL = FinalScores(
    CleanScores(Score(0.5, 0.25, 10)), Score(0.5, 0.125, 10), 3.5, ("0" * 64, "1" * 64)
)


class _MemoryFolder(PrivateFolder):
    """A private folder in memory: files would take most of the time."""

    def __init__(self) -> None:
        self.path = Path("private")
        self.files: dict[str, bytes] = {}

    def __contains__(self, name: str) -> bool:
        return name in self.files

    def read_secret(self, name: str) -> bytes:
        return self.files[name]

    def write_secret(self, name: str, content: bytes) -> Path:
        raise NotImplementedError("kept results are of other segments")


_FOLDER = _MemoryFolder()


def _place(name: str, content: bytes) -> OwnerSecrets:
    """Put ``content`` where the run would find it."""
    _FOLDER.files[name] = content
    return OwnerSecrets(_FOLDER)


def _never() -> NoReturn:
    raise AssertionError("made anew although it is there")


@functools.cache
def _front() -> Front:
    operations = untrained_dct((1, 8, 8), 6)
    return assemble_front((1, 8, 8), operations, FrontOrigin("fixed-basis", "DCT"))


def _fronts() -> list[bytes]:
    return [_front().front_settings().encode()]


def _read_front(content: bytes) -> None:
    _place("front.safetensors", pack_safetensors(_front().front_tensors(), {}))
    front = _place("front.json", content).secret_front(_never)
    assert front.digest == _front().digest


def _front_tensor_files() -> list[bytes]:
    return [pack_safetensors(_front().front_tensors(), {})]


def _read_front_tensors(content: bytes) -> None:
    _place("front.json", _front().front_settings().encode())
    front = _place("front.safetensors", content).secret_front(_never)
    assert front.digest == _front().digest


def _label_maps() -> list[bytes]:
    rows = np.random.default_rng(0).normal(size=(400, 6)).astype(np.float32)
    anchors = LabelMap.draw_label_map("anchors", 3, 8, _KEY)
    return [
        LabelMap.draw_label_map("none", 4, 1, _KEY).to_private_bytes(),
        LabelMap.draw_label_map("random", 3, 4, _KEY).to_private_bytes(),
        anchors.with_anchors(rows, np.arange(400) % 3).to_private_bytes(),
    ]


def _input_facts() -> list[bytes]:
    return [
        InputFacts(("a", "b"), "uint8", 0.0, 1.0).to_private_bytes(),
        InputFacts(("cat", "ä", "c"), "float32", -1.5, 1e30).to_private_bytes(),
    ]


def _read_input_facts(content: bytes) -> None:
    facts = _place("input.json", content).stored_input_facts()
    assert facts is not None
    assert len(facts.class_names) >= 2


def _read_label_map(content: bytes) -> None:
    label_map = _place("label-map.safetensors", content).secret_label_map(_never)
    if label_map.ready:
        # What is taken can be used.
        rows = np.zeros((3, 6), dtype=np.float32)
        classes = np.arange(3) % label_map.num_classes
        names = label_map.map_to_sub_labels(classes, np.arange(3), rows, split="train")
        assert np.array_equal(label_map.map_to_classes(names), classes)


def _moments() -> list[bytes]:
    rng = np.random.default_rng(0)
    scores = Scores(*(torch.from_numpy(rng.normal(size=shape)) for shape in (4, (4, 3), 3)))
    release = MomentsRelease(
        SyntheticRows(
            rng.normal(size=(3, 4)).astype(np.float32), rng.normal(size=4), np.arange(9) % 3
        ),
        MomentBaselines(scores, MomentModel(rng.normal(size=(4, 3)), rng.normal(size=3))),
    )
    return [release.to_private_bytes()]


def _read_moments(content: bytes) -> None:
    release = _place("moments.safetensors", content).secret_moments(_never)
    # What is taken can be used.
    ids = np.array([0, len(release.rows) - 1])
    rows = torch.from_numpy(release.rows.compute_rows(ids))
    baselines = release.baselines
    classes = baselines.class_sums.apply(rows).shape
    if baselines.moments is not None:
        said = baselines.moments.class_probabilities(rows.double().numpy())
        assert said.shape == classes
    assert release.rows.true_classes(ids).max() < classes[1]


def _receipts() -> list[bytes]:
    receipts = ReleaseReceipts(20, _SEAL_KEY)
    rows = np.ones((3, 4), dtype=np.float32)
    receipts.add_receipts(np.arange(3), rows, None)
    return [receipts.to_bytes(), ReleaseReceipts(0, _SEAL_KEY).to_bytes()]


def _read_receipts(content: bytes) -> None:
    secrets = _place("receipts-train.bin", content)
    assert secrets.secret_receipts("train", 20, _SEAL_KEY).to_bytes() == content


def _read_sealed_receipts(content: bytes) -> None:
    """A body under a right seal: what only the key's holder, or a bug, could have written."""
    receipts = ReleaseReceipts(0, _SEAL_KEY)
    _read_receipts(content + receipts._seal(content))


def _ledgers() -> list[bytes]:
    charge = Charge.approximate(1.0, 1e-6, "zero-out")
    ledger = PrivacyLedger(PrivacyBudget(9.0, 1e-5))
    event = PrivacyEvent("front-training", "train", 5, "r", "DP-SGD", "sample", charge, charge)
    labels = PrivacyEvent("labels", "train", 5, "s", "map", "sample", None, None)
    ledger.authorise_event(event)
    ledger.authorise_event(labels)
    return [json.dumps(one.to_dict()).encode() for one in (ledger, PrivacyLedger())]


def _read_ledger(content: bytes) -> None:
    ledger = _place(LEDGER_FILE, content).secret_ledger(None)
    # A damaged ledger must never count for less than it says.
    ledger.spent_epsilon(1e-5)
    assert PrivacyLedger.from_dict(ledger.to_dict()).entries == ledger.entries


def _read_scores(content: bytes) -> None:
    _place("ending.json", content)
    with contextlib.suppress(NotImplementedError):
        keep_final_scores(_FOLDER, _FINAL)


def _read_master_key(content: bytes) -> None:
    MasterKey.from_private_bytes(content)


TARGETS: Sequence[FuzzTarget] = (
    FuzzTarget("front-settings", _fronts, _read_front, form="json", files=True),
    FuzzTarget("front-tensors", _front_tensor_files, _read_front_tensors, files=True),
    FuzzTarget("label-map", _label_maps, _read_label_map, files=True),
    FuzzTarget("input-facts", _input_facts, _read_input_facts, form="json"),
    FuzzTarget("moments", _moments, _read_moments, files=True),
    FuzzTarget("receipts", _receipts, _read_receipts),
    FuzzTarget(
        "sealed-receipts",
        lambda: [one[:-16] for one in _receipts()],
        _read_sealed_receipts,
    ),
    FuzzTarget("privacy-ledger", _ledgers, _read_ledger, form="json"),
    FuzzTarget(
        "final-scores", lambda: [json.dumps(asdict(_FINAL)).encode()], _read_scores, form="json"
    ),
    FuzzTarget(
        "master-key",
        lambda: [_KEY.to_private_bytes()],
        _read_master_key,
        refusals=(ValueError,),
    ),
)
