"""Evidence that a key signed two things of one place: two ledgers, or two proofs of one stage.

Two notes of the owner's of one size, unlike roots; or two unlike proofs of a trainer's of one stage
in one start of the run. Whoever has the key has signed both, and nobody else can make such a pair.
What is no such pair accuses nobody, whoever wrote it down.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from clicooper_hpc.errors import EvidenceError
from clicooper_hpc.provenance.canonical_json import encode_canonical_json, parse_canonical_json
from clicooper_hpc.provenance.envelope import (
    Envelope,
    parse_envelope,
    require_envelope_signatures,
)
from clicooper_hpc.provenance.identity import PublicIdentity
from clicooper_hpc.provenance.statements import StageProof, parse_statement
from clicooper_hpc.provenance.tree_checkpoint import (
    OWNER_NAME,
    SignedCheckpoint,
    checkpoint_origin,
)

__all__ = ["EQUIVOCATION_BYTES", "Equivocation", "EquivocationKind"]

EquivocationKind = Literal["ledgers", "proofs"]
#: Most bytes of the evidence as a file. Proofs are short: every field of theirs is bounded.
EQUIVOCATION_BYTES: Final = 16384
_FORMATS: Final[Mapping[str, EquivocationKind]] = {
    "clicooper-equivocation/v1": "ledgers",
    "clicooper-equivocation-proofs/v1": "proofs",
}


@dataclass(frozen=True, slots=True)
class Equivocation:
    """Two signed texts that contradict each other, if they are what they seem.

    Notes of the owner's (``ledgers``), or envelopes around proofs of a trainer's (``proofs``).
    """

    first: str
    second: str
    kind: EquivocationKind = field(default="ledgers", kw_only=True)

    @classmethod
    def of_proofs(cls, first: Envelope, second: Envelope) -> Equivocation:
        """Put two proofs beside each other."""
        return cls(first.to_bytes().decode(), second.to_bytes().decode(), kind="proofs")

    def to_bytes(self) -> bytes:
        """Return the evidence as a file: canonical JSON of the format's name and both texts."""
        (name,) = (name for name, kind in _FORMATS.items() if kind == self.kind)
        return encode_canonical_json({"first": self.first, "format": name, "second": self.second})

    @classmethod
    def from_bytes(cls, content: bytes, *, where: str) -> Equivocation:
        """Read what `to_bytes` wrote; `EvidenceError` if it is anything else."""
        value = parse_canonical_json(content, limit=EQUIVOCATION_BYTES, where=where)
        if not isinstance(value, dict) or tuple(value) != ("first", "format", "second"):
            raise EvidenceError("has other fields than two signed texts", where=where)
        first, name, second = value["first"], value["format"], value["second"]
        kind = _FORMATS.get(name) if isinstance(name, str) else None
        if kind is None or not isinstance(first, str) or not isinstance(second, str):
            raise EvidenceError("is no evidence of this format", where=where)
        return cls(first, second, kind=kind)

    def accuse(
        self, owner: PublicIdentity, trainers: Sequence[PublicIdentity], run_id: str, *, where: str
    ) -> tuple[int, str]:
        """Return which rank signed two things of one place, and in words which.

        Parameters
        ----------
        trainers
            Their keys, in the order of their segments.

        Raises
        ------
        EvidenceError
            It shows no such thing.
        """
        if self.kind == "ledgers":
            size = self.forked_size(owner, run_id, where=where)
            return 0, f"it signed two ledgers of {size} entries, a fork"
        segment, stage = self.doubled_proof(trainers, run_id, where=where)
        return segment, f"it signed two proofs of stage {stage} in one start of the run"

    def forked_size(self, owner: PublicIdentity, run_id: str, *, where: str) -> int:
        """Return the number of entries of which ``owner`` signed two ledgers of one run.

        Raises
        ------
        EvidenceError
            A note is not signed by it alone, or of another run, or the two agree.
        """
        notes = [SignedCheckpoint.parse(text, where=where) for text in (self.first, self.second)]
        for note in notes:
            note.verify({OWNER_NAME: owner}, where=where)
        first, second = (note.checkpoint for note in notes)
        if {first.origin, second.origin} != {checkpoint_origin(run_id)}:
            raise EvidenceError("speaks of another run", where=where)
        if first.size != second.size or first.root == second.root:
            raise EvidenceError("shows two notes that do not contradict each other", where=where)
        return first.size

    def doubled_proof(
        self, trainers: Sequence[PublicIdentity], run_id: str, *, where: str
    ) -> tuple[int, int]:
        """Return segment and stage of which its trainer signed two proofs in one start.

        Raises
        ------
        EvidenceError
            A proof is not signed by it alone, or of another run, or the two agree.
        """
        both = [parse_envelope(text.encode(), where=where) for text in (self.first, self.second)]
        first, second = (parse_statement(one.payload, where=where) for one in both)
        if not isinstance(first, StageProof) or not isinstance(second, StageProof):
            raise EvidenceError("shows other statements than proofs", where=where)
        if {first.run_id, second.run_id} != {run_id} or first.segment > len(trainers):
            raise EvidenceError("speaks of another run", where=where)
        for one in both:
            require_envelope_signatures(one, [trainers[first.segment - 1]], where=where)
        # After a kill an honest trainer may have to prove the stage again, in another start.
        places = {(one.segment, one.stage, one.start) for one in (first, second)}
        # By the digest that the next proof names: signatures included.
        if len(places) > 1 or both[0].digest() == both[1].digest():
            raise EvidenceError("shows two proofs that do not contradict each other", where=where)
        return first.segment, first.stage
