"""Parsers of what is signed: canonical JSON, statements, envelopes, checkpoints, keys, proofs."""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory

from forge import RUN_ID, Forge
from fuzz_target import FuzzTarget

from clicooper_hpc.errors import EvidenceError, UsageError
from clicooper_hpc.provenance.canonical_json import encode_canonical_json, parse_canonical_json
from clicooper_hpc.provenance.envelope import parse_envelope, require_envelope_signatures
from clicooper_hpc.provenance.equivocation import Equivocation
from clicooper_hpc.provenance.identity import Identity, PublicIdentity
from clicooper_hpc.provenance.ledger_update import LedgerUpdate
from clicooper_hpc.provenance.marks.mark_keys import open_mark_key
from clicooper_hpc.provenance.merkle import (
    MerkleTree,
    verify_merkle_consistency,
    verify_merkle_inclusion,
)
from clicooper_hpc.provenance.proof_message import ProofMessage
from clicooper_hpc.provenance.statements import parse_statement
from clicooper_hpc.provenance.tree_checkpoint import SignedCheckpoint
from clicooper_hpc.verification.evidence import Evidence
from clicooper_hpc.verification.marks.opening import OpenedMark, read_mark_opening
from clicooper_hpc.verification.run_checks import has_failed_checks, run_checks

_HASH = 32
_LEAVES = [sha256(bytes([i])).digest() for i in range(13)]
#: The tree of the first so many leaves, and its root.
_TREES = [MerkleTree(_LEAVES[:size]) for size in range(len(_LEAVES) + 1)]
_ROOTS = [tree.root() for tree in _TREES]


@functools.cache
def _ledger() -> tuple[Forge, Evidence]:
    forge = Forge(segments=2, stages=1)
    return forge, forge.build()


def _envelopes() -> list[bytes]:
    return list(_ledger()[1].entries)


def _statements() -> list[bytes]:
    return [parse_envelope(entry).payload for entry in _envelopes()]


def _read_json(content: bytes) -> None:
    # One value has one spelling, or a statement would have two digests.
    assert encode_canonical_json(parse_canonical_json(content, where="input")) == content


def _read_statement(content: bytes) -> None:
    assert parse_statement(content, where="input").statement_bytes() == content


def _read_envelope(content: bytes) -> None:
    envelope = parse_envelope(content, where="input")
    assert envelope.to_bytes() == content
    if content not in _envelopes():
        keys = [_ledger()[0].owner.public]
        try:
            require_envelope_signatures(envelope, keys, where="input")
        except EvidenceError:
            return
        # A changed envelope may only pass where nothing but its signatures' order changed.
        assert envelope.payload in _statements(), "a forged signature was taken"


def _notes() -> list[bytes]:
    return [note.encode() for note in _ledger()[1].checkpoints]


def _read_note(content: bytes) -> None:
    note = SignedCheckpoint.parse(content.decode("utf-8", "replace"), where="input")
    assert note.to_text().encode() == content
    owner = _ledger()[0].owner.public
    try:
        note.verify({"owner": owner}, where="input")
    except EvidenceError:
        return
    assert content in _notes(), "a forged checkpoint was taken"


def _equivocations() -> list[bytes]:
    # Honest signers: of each place there is one note and one proof.
    notes = [note.decode() for note in _notes()]
    proof = parse_envelope(_envelopes()[-2])
    found = [Equivocation(note, note) for note in notes]
    return [one.to_bytes() for one in (*found, Equivocation.of_proofs(proof, proof))]


def _read_equivocation(content: bytes) -> None:
    found = Equivocation.from_bytes(content, where="input")
    assert found.to_bytes() == content
    forge = _ledger()[0]
    trainers = [one.public for one in forge.trainers]
    try:
        found.accuse(forge.owner.public, trainers, RUN_ID, where="input")
    except EvidenceError:
        return
    raise AssertionError("who signed nothing twice was accused")


def _proof_message(content: bytes) -> None:
    assert ProofMessage.from_bytes(content, where="input").to_bytes() == content


def _proof_messages() -> list[bytes]:
    envelopes = [parse_envelope(entry) for entry in _envelopes()]
    messages = (
        ProofMessage(envelopes[5], None),
        ProofMessage(*envelopes[5:7]),
        ProofMessage(*envelopes[5:8]),
    )
    return [message.to_bytes() for message in messages]


def _ledger_update(content: bytes) -> None:
    assert LedgerUpdate.from_bytes(content, limit=2**20).to_bytes() == content


def _ledger_updates() -> list[bytes]:
    evidence = _ledger()[1]
    return [
        LedgerUpdate((), ()).to_bytes(),
        LedgerUpdate(tuple(evidence.entries[:2]), tuple(evidence.checkpoints[:1])).to_bytes(),
    ]


def _check_ledger(content: bytes) -> None:
    """One entry of a whole ledger replaced: all numbered checks still answer."""
    evidence = _ledger()[1]
    at, entry = content[0] % len(evidence.entries) if content else 0, content[1:]
    entries = (*evidence.entries[:at], entry, *evidence.entries[at + 1 :])
    results = run_checks(replace(evidence, entries=entries))
    assert entries == evidence.entries or has_failed_checks(results), "a changed entry passed"


def _checked_ledgers() -> list[bytes]:
    return [bytes([at]) + entry for at, entry in enumerate(_envelopes())]


def _inclusion(content: bytes) -> None:
    """Index and size (1 byte each), then the hashes of a proof: only the tree's own one passes."""
    if len(content) < 2:
        return
    index, size, proof = content[0], content[1], _hashes(content[2:])
    root = _ROOTS[min(size, len(_LEAVES))]
    leaf = _LEAVES[index % len(_LEAVES)]
    verify_merkle_inclusion(leaf, index, size, proof, root)
    # A proof fits other sizes of the same height, too: a signed checkpoint binds root and size.
    assert size >= len(_TREES) or proof == _TREES[-1].inclusion_proof(index, size)


def _inclusions() -> list[bytes]:
    tree = _TREES[-1]
    places = ((0, 1), (0, 2), (3, 7), (12, 13), (5, 13))
    return [bytes(at) + b"".join(tree.inclusion_proof(*at)) for at in places]


def _consistency(content: bytes) -> None:
    if len(content) < 2:
        return
    old, new, proof = content[0], content[1], _hashes(content[2:])
    roots = [_ROOTS[min(size, len(_LEAVES))] for size in (old, new)]
    verify_merkle_consistency(old, roots[0], new, roots[1], proof)
    assert new >= len(_TREES) or proof == _TREES[new].consistency_proof(old)


def _consistencies() -> list[bytes]:
    places = ((0, 5), (5, 5), (3, 7), (8, 13), (6, 13))
    return [bytes(at) + b"".join(_TREES[at[1]].consistency_proof(at[0])) for at in places]


def _hashes(content: bytes) -> list[bytes]:
    return [content[start : start + _HASH] for start in range(0, len(content), _HASH)]


def _pem_files() -> list[bytes]:
    one = Identity.generate()
    return [one.to_pem(), one.public.to_pem(), one.public.raw, one.public.raw.hex().encode()]


def _read_keys(content: bytes) -> None:
    for read in (PublicIdentity.from_raw, PublicIdentity.from_pem, Identity.from_pem):
        try:
            read(content)
        except (EvidenceError, UsageError):
            continue


@functools.cache
def _folder() -> TemporaryDirectory[str]:
    return TemporaryDirectory(prefix="fuzz-")


def _mark_openings() -> list[bytes]:
    forge = _ledger()[0]
    opening = open_mark_key(RUN_ID, 1, forge.masters[0], 4, 2)
    return [OpenedMark(RUN_ID, 1, opening).to_bytes()]


def _read_opening(content: bytes) -> None:
    path = Path(_folder().name) / "mark.json"
    path.write_bytes(content)
    assert json.loads(read_mark_opening(path).to_bytes()) == json.loads(content)


TARGETS: Sequence[FuzzTarget] = (
    FuzzTarget("canonical-json", _statements, _read_json, form="json"),
    FuzzTarget("statement", _statements, _read_statement, form="json"),
    FuzzTarget("envelope", _envelopes, _read_envelope, form="json"),
    FuzzTarget("tree-checkpoint", _notes, _read_note),
    FuzzTarget("equivocation", _equivocations, _read_equivocation, form="json"),
    FuzzTarget("proof-message", _proof_messages, _proof_message, form="json"),
    FuzzTarget("ledger-update", _ledger_updates, _ledger_update, form="json"),
    FuzzTarget("checked-ledger", _checked_ledgers, _check_ledger, files=True),
    FuzzTarget("merkle-inclusion", _inclusions, _inclusion),
    FuzzTarget("merkle-consistency", _consistencies, _consistency),
    FuzzTarget("key-file", _pem_files, _read_keys),
    FuzzTarget("mark-opening", _mark_openings, _read_opening, form="json"),
)
