"""The message to a neighbour or to the owner at the end of a stage: a hand-off and proofs."""

from __future__ import annotations

from dataclasses import dataclass

from clicooper_hpc.errors import EvidenceError
from clicooper_hpc.provenance.canonical_json import (
    Json,
    encode_canonical_json,
    parse_canonical_json,
)
from clicooper_hpc.provenance.envelope import Envelope, parse_envelope

__all__ = ["ProofMessage", "proof_message_limit"]

#: Bytes of one envelope in a packet, and of everything around it.
_ENVELOPE_BYTES = 40960
#: From the owner, between trainers or from trainer 1, from the others to the owner.
_FIELDS = (("handoff",), ("handoff", "proof"), ("handoff", "proof", "upstream"))


def proof_message_limit(envelopes: int) -> int:
    """Return the most bytes a message with so many envelopes may have."""
    return _ENVELOPE_BYTES * envelopes


@dataclass(frozen=True, slots=True)
class ProofMessage:
    """A hand-off and, unless it comes from the owner, the proof it belongs to.

    ``upstream`` goes to the owner alone: the proof of the rank before, as that rank sent it.
    """

    handoff: Envelope
    proof: Envelope | None
    upstream: Envelope | None = None

    def to_bytes(self) -> bytes:
        """Encode for the wire."""
        value: dict[str, Json] = {"handoff": self.handoff.to_bytes().decode("ascii")}
        if self.proof is not None:
            value["proof"] = self.proof.to_bytes().decode("ascii")
        if self.upstream is not None:
            value["upstream"] = self.upstream.to_bytes().decode("ascii")
        return encode_canonical_json(value)

    @classmethod
    def from_bytes(cls, content: bytes, *, where: str) -> ProofMessage:
        """Decode; `EvidenceError` if it is nothing `to_bytes` writes. No signature is checked."""
        value = parse_canonical_json(content, limit=proof_message_limit(3), where=where)
        # The owner has no proof to send: its hand-off stands alone.
        if not isinstance(value, dict) or tuple(value) not in _FIELDS:
            raise EvidenceError("has other fields than a hand-off and proofs", where=where)
        texts = {name: text for name, text in value.items() if isinstance(text, str)}
        if len(texts) != len(value) or not all(text.isascii() for text in texts.values()):
            raise EvidenceError("a field is no ASCII text", where=where)
        envelopes = {
            name: parse_envelope(text.encode("ascii"), where=where) for name, text in texts.items()
        }
        return cls(envelopes["handoff"], envelopes.get("proof"), envelopes.get("upstream"))
