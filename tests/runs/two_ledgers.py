"""Notes and evidence of two ledgers or proofs in a finished run, signed with own keys or false."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import h5py
from tampering import reseal

from clicooper_hpc.provenance.canonical_json import encode_canonical_json
from clicooper_hpc.provenance.envelope import Envelope, parse_envelope, sign_envelope
from clicooper_hpc.provenance.equivocation import Equivocation
from clicooper_hpc.provenance.identity import Identity
from clicooper_hpc.provenance.statements import StageProof, parse_statement
from clicooper_hpc.provenance.tree_checkpoint import OWNER_NAME, SignedCheckpoint
from clicooper_hpc.runstore.reader import open_run

__all__ = [
    "evidence_of_notes",
    "evidence_of_proofs",
    "evidence_that_is_none",
    "other_note_beside_a_head",
]

EVIDENCE = "clicooper-equivocation/v1"


def signed_by_the_owner(folder: Path, *, place: int, root: bytes) -> SignedCheckpoint:
    """A note of another root at the size of a stored one, under the owner's own key."""
    stored = SignedCheckpoint.parse(open_run(folder).table("checkpoints", rank=0)["note"][place])
    owner = Identity.from_pem((folder / "private/rank-000/identity.pem").read_bytes())
    return SignedCheckpoint.sign(replace(stored.checkpoint, root=root), owner, OWNER_NAME)


def other_note_beside_a_head(folder: Path) -> None:
    note = signed_by_the_owner(folder, place=1, root=bytes(32))
    with h5py.File(folder / "rank-002.h5", "r+", locking=False) as file:
        file["heads/note"][1] = note.to_text().encode()
    reseal(folder)


def evidence_of_notes(first: bytes, second: bytes) -> Callable[[Path], None]:
    """Keep two notes of one size as evidence of two ledgers, of these roots."""

    def act(folder: Path) -> None:
        notes = [signed_by_the_owner(folder, place=1, root=root) for root in (first, second)]
        found = Equivocation(*(note.to_text() for note in notes))
        (folder / "equivocation").mkdir()
        (folder / "equivocation" / "rank-001-0.json").write_bytes(found.to_bytes())

    return act


def proofs_of(folder: Path, **values: object) -> tuple[Envelope, Envelope]:
    """The last trainer's last proof, and one with these values, under its own key."""
    rows = {table.name: found for table, found in open_run(folder).stored_rows(0).items()}
    proof = parse_envelope(bytes(rows["ledger"]["envelope"][-2]))
    statement = parse_statement(proof.payload)
    assert isinstance(statement, StageProof)
    pem = folder / f"private/rank-{statement.segment:03d}/identity.pem"
    other = statement.model_copy(update=values)
    return proof, sign_envelope(other.statement_bytes(), Identity.from_pem(pem.read_bytes()))


def evidence_of_proofs(**values: object) -> Callable[[Path], None]:
    """Keep the last proof, and one with these values, as evidence of two."""

    def act(folder: Path) -> None:
        found = Equivocation.of_proofs(*proofs_of(folder, **values))
        (folder / "equivocation").mkdir()
        (folder / "equivocation" / "rank-000-0.json").write_bytes(found.to_bytes())

    return act


def evidence_that_is_none(folder: Path) -> None:
    """Notes and files of evidence that are none, each by another rule."""
    (folder / "equivocation").mkdir()
    note = signed_by_the_owner(folder, place=1, root=bytes(32)).to_text()
    other = signed_by_the_owner(folder, place=1, root=b"1" * 32).to_text()
    run_id, size = note.split("\n")[:2]
    contents = {
        "long": b" " * 20000,
        "not-json": b"{",
        "list": b"[]",
        "numbers": encode_canonical_json({"first": 1, "format": EVIDENCE, "second": 2}),
        "format": encode_canonical_json({"first": note, "format": "v0", "second": other}),
        "more": encode_canonical_json({"first": note, "format": EVIDENCE, "second": other, "z": 1}),
        "spaced": json.dumps({"first": note, "format": EVIDENCE, "second": other}).encode(),
    }
    for name, changed in {
        "size": note.replace(f"\n{size}\n", f"\n{'9' * 5000}\n"),
        "zero": note.replace(f"\n{size}\n", f"\n0{size}\n"),
        "run": note.replace(run_id, run_id[:-1] + ("0" if run_id[-1] != "0" else "1")),
        "twice": note + note.splitlines()[-1] + "\n",
        "name": note.replace("owner", "trainer-1"),
        "unsigned": note.rpartition("\u2014")[0],
    }.items():
        contents[name] = encode_canonical_json(
            {"first": changed, "format": EVIDENCE, "second": other}
        )
    proof, again = proofs_of(folder, weights_out="12" * 32)
    stranger = sign_envelope(again.payload, Identity.generate())
    for name, found in {
        "same-proof": Equivocation.of_proofs(proof, proof),
        "stranger": Equivocation.of_proofs(proof, stranger),
        "starts": Equivocation.of_proofs(*proofs_of(folder, start="12" * 32)),
        "stages": Equivocation.of_proofs(*proofs_of(folder, stage=0)),
        "segments": Equivocation.of_proofs(*proofs_of(folder, segment=1)),
        "runs": Equivocation.of_proofs(*proofs_of(folder, run_id="12" * 16)),
        "notes": Equivocation(note, other, kind="proofs"),
        "proofs": replace(Equivocation.of_proofs(proof, again), kind="ledgers"),
    }.items():
        contents[name] = found.to_bytes()
    for name, content in contents.items():
        (folder / "equivocation" / f"{name}.json").write_bytes(content)
    (folder / "equivocation" / "link.json").symlink_to(folder / "run.h5")
    (folder / "equivocation" / "folder").mkdir()
