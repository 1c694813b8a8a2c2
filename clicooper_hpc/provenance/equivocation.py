"""Evidence that the owner keeps two ledgers: two notes under its key, of one size, unlike roots.

Whoever has the key has signed both, and nobody else can make such a pair. What is no such pair
accuses nobody, whoever wrote it down.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from clicooper_hpc.errors import EvidenceError
from clicooper_hpc.provenance.canonical_json import encode_canonical_json, parse_canonical_json
from clicooper_hpc.provenance.identity import PublicIdentity
from clicooper_hpc.provenance.tree_checkpoint import (
    OWNER_NAME,
    SignedCheckpoint,
    checkpoint_origin,
)

__all__ = ["EQUIVOCATION_BYTES", "Equivocation"]

#: Most bytes of the evidence as a file.
EQUIVOCATION_BYTES: Final = 16384
_FORMAT: Final = "clicooper-equivocation/v1"


@dataclass(frozen=True, slots=True)
class Equivocation:
    """Two signed notes (text) that contradict each other, if they are what they seem."""

    first: str
    second: str

    def to_bytes(self) -> bytes:
        """Return the evidence as a file: canonical JSON of the format's name and both notes."""
        return encode_canonical_json(
            {"first": self.first, "format": _FORMAT, "second": self.second}
        )

    @classmethod
    def from_bytes(cls, content: bytes, *, where: str) -> Equivocation:
        """Read what `to_bytes` wrote; `EvidenceError` if it is anything else."""
        value = parse_canonical_json(content, limit=EQUIVOCATION_BYTES, where=where)
        if not isinstance(value, dict) or tuple(value) != ("first", "format", "second"):
            raise EvidenceError("has other fields than two notes", where=where)
        first, second = value["first"], value["second"]
        if value["format"] != _FORMAT or not isinstance(first, str) or not isinstance(second, str):
            raise EvidenceError("is no evidence of this format", where=where)
        return cls(first, second)

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
