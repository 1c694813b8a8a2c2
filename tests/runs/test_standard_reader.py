"""Exported proofs of a whole run, checked by securesystemslib with nothing of this package."""

from __future__ import annotations

import base64
import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import VerificationError
from securesystemslib.signer import Key, SSlibKey  # type: ignore[attr-defined]  # no __all__
from start import SMALL, train

from clicooper_hpc.verification.verification_report import verification_report

pytestmark = pytest.mark.mpi

PAGE = Path(__file__).resolve().parents[2] / "docs" / "provenance.md"
TRAINERS, STAGES = 2, 2
NAMES = ("owner", "trainer-1", "trainer-2")


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("standard")
    text = f"{SMALL}[provenance]\nstages = {STAGES}\n"
    verification_report(
        train(folder, 1 + TRAINERS, text=text).folder.path,
        owner_key=None,
        trainer_keys=[],
        mark_keys=[],
        segment_file=None,
        export=folder / "out",
        as_json=False,
    )
    return folder / "out"


def keys_of(folder: Path) -> list[Key]:
    content = json.loads((folder / "keys.securesystemslib.json").read_text("utf-8"))
    return [Key.from_dict(keyid, key) for keyid, key in content.items()]


def lines_of(folder: Path, name: str = "proofs.securesystemslib.jsonl") -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / name).read_text("utf-8").splitlines()]


def verify(line: dict[str, Any], keys: list[Key]) -> set[str]:
    envelope = Envelope.from_dict(json.loads(json.dumps(line)))
    signers = envelope.verify(keys, threshold=len(envelope.signatures))
    return {key.unrecognized_fields["name"] for key in signers.values()}


def test_the_snippet_of_the_page_verifies_every_envelope(exported: Path) -> None:
    page = PAGE.read_text(encoding="utf-8")
    (snippet,) = re.findall(r"```python\n(import json\nfrom securesystemslib.*?)```", page, re.S)
    check = "\nimport sys\nassert 'clicooper_hpc' not in sys.modules\n"
    # -I: neither PYTHONPATH nor this folder, only what is installed.
    done = subprocess.run(
        [sys.executable, "-I", "-c", snippet + check],
        cwd=exported,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    found = Counter(done.stdout.splitlines())
    assert found.total() == 1 + TRAINERS + 3 * TRAINERS * STAGES + 1
    signed = {
        "run": ["owner"],
        "delivery": ["owner"],
        "enrolment": ["trainer-1", "trainer-2"],
        "handoff": ["owner trainer-1", "trainer-1 trainer-2"],
    }
    for kind, signers in signed.items():
        each = STAGES if kind == "handoff" else 1
        for who in signers:
            assert found[f"urn:clicooper:{kind}:v1 signed by {who}"] == each, found


def test_what_is_signed_is_that_of_the_bundle(exported: Path) -> None:
    for ours, theirs in zip(
        lines_of(exported, "proofs.intoto.jsonl"), lines_of(exported), strict=True
    ):
        assert (ours["payload"], ours["payloadType"]) == (theirs["payload"], theirs["payloadType"])
        assert [one["sig"] for one in ours["signatures"]] == [
            one["sig"] for one in theirs["signatures"]
        ]


def test_the_pem_files_are_the_same_keys_to_the_library(exported: Path) -> None:
    by_name = {key.unrecognized_fields["name"]: key for key in keys_of(exported)}
    assert set(by_name) == set(NAMES)
    from_pem = {}
    for name in NAMES:
        key = load_pem_public_key((exported / f"{name}.pub.pem").read_bytes())
        from_pem[name] = SSlibKey.from_crypto(key)
        assert (from_pem[name].keyid, from_pem[name].keyval) == (
            by_name[name].keyid,
            by_name[name].keyval,
        )
    for line in lines_of(exported):
        envelope = Envelope.from_dict(line)
        envelope.verify(list(from_pem.values()), threshold=len(envelope.signatures))


def changed_payload(line: dict[str, Any]) -> None:
    content = bytearray(base64.b64decode(line["payload"]))
    content[len(content) // 2] ^= 1
    line["payload"] = base64.b64encode(content).decode()


def changed_type(line: dict[str, Any]) -> None:
    line["payloadType"] = "application/json"


def changed_signature(line: dict[str, Any]) -> None:
    content = bytearray(base64.b64decode(line["signatures"][-1]["sig"]))
    content[0] ^= 1
    line["signatures"][-1]["sig"] = base64.b64encode(content).decode()


def unknown_key(line: dict[str, Any]) -> None:
    line["signatures"][-1]["keyid"] = "0" * 64


@pytest.mark.parametrize("tamper", [changed_payload, changed_type, changed_signature, unknown_key])
def test_a_tampered_envelope_is_refused(
    exported: Path, tamper: Callable[[dict[str, Any]], None]
) -> None:
    keys = keys_of(exported)
    for line in lines_of(exported):
        assert verify(line, keys) <= set(NAMES)
        tamper(line)
        with pytest.raises(VerificationError):
            verify(line, keys)


def test_a_signature_of_another_party_is_refused(exported: Path) -> None:
    keys = keys_of(exported)
    owner, *others = (key.keyid for key in keys)
    for line in lines_of(exported):
        for one in line["signatures"]:
            one["keyid"] = {owner: others[0], others[0]: others[1], others[1]: owner}[one["keyid"]]
        with pytest.raises(VerificationError):
            verify(line, keys)
