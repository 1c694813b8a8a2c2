"""Signed statements: DSSE v1 envelopes with Ed25519 signatures.

What is signed is the pre-authentication encoding of the payload *as stored*; nothing is serialised
again to be verified. An envelope is itself canonical JSON, so its digest names exactly one file.
`securesystemslib` reads these envelopes, but also ones with unknown fields, other key orders and
base64 with stray characters, any of which would give one statement many digests.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from clicooper_hpc.digests import Digest, digest_bytes
from clicooper_hpc.errors import EvidenceError
from clicooper_hpc.provenance.canonical_json import (
    MAX_BYTES,
    Json,
    encode_canonical_json,
    parse_canonical_json,
)
from clicooper_hpc.provenance.identity import SIGNATURE_BYTES, Identity, PublicIdentity

__all__ = [
    "MAX_SIGNATURES",
    "PAYLOAD_TYPE",
    "Envelope",
    "Signature",
    "countersign_envelope",
    "envelope_digest",
    "envelope_pae",
    "envelope_payload_digest",
    "parse_envelope",
    "require_envelope_signatures",
    "sign_envelope",
]

PAYLOAD_TYPE: Final = "application/vnd.in-toto+json"
MAX_SIGNATURES: Final = 16

# Base64 of the longest payload, the signatures, the names around them.
_MAX_ENVELOPE = MAX_BYTES * 4 // 3 + 4 + 256 * MAX_SIGNATURES
_KEYID = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Signature:
    """One signature: id of the key (64 hex digits) and 64 bytes."""

    keyid: str
    sig: bytes


@dataclass(frozen=True, slots=True)
class Envelope:
    """A payload and who signed it.

    Parameters
    ----------
    payload
        The statement, byte for byte as it was signed.
    signatures
        In the order they were given.
    """

    payload: bytes
    signatures: tuple[Signature, ...]

    def to_bytes(self) -> bytes:
        """Return the envelope as canonical JSON."""
        signatures: list[Json] = [
            {"keyid": one.keyid, "sig": _to_base64(one.sig)} for one in self.signatures
        ]
        return encode_canonical_json(
            {
                "payload": _to_base64(self.payload),
                "payloadType": PAYLOAD_TYPE,
                "signatures": signatures,
            }
        )

    def digest(self) -> Digest:
        """Digest of the whole envelope, signatures included."""
        return envelope_digest(self.to_bytes())

    def payload_digest(self) -> Digest:
        """Digest of the statement alone: the same however many have signed it."""
        return envelope_payload_digest(self.payload)


def envelope_digest(content: bytes) -> Digest:
    """Digest of an envelope as stored."""
    return digest_bytes("clicooper/v1/envelope", content)


def envelope_payload_digest(payload: bytes) -> Digest:
    """Digest of a statement without signatures: how hand-offs are referred to."""
    return digest_bytes("clicooper/v1/payload", payload)


def envelope_pae(payload: bytes) -> bytes:
    """Bytes that are signed: the PAE of DSSE v1, which binds type and lengths."""
    kind = PAYLOAD_TYPE.encode("ascii")
    # Lengths in front: no other split into type and payload has the same bytes.
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)


def sign_envelope(payload: bytes, identity: Identity) -> Envelope:
    """Put ``payload`` into an envelope signed by ``identity``."""
    if len(payload) > MAX_BYTES:
        raise ValueError(f"a payload has at most {MAX_BYTES} bytes, not {len(payload)}")
    return countersign_envelope(Envelope(payload, ()), identity)


def countersign_envelope(envelope: Envelope, identity: Identity) -> Envelope:
    """Return the envelope with the signature of ``identity`` added."""
    # One key must not count for two signers of a hand-off.
    if any(one.keyid == identity.keyid for one in envelope.signatures):
        raise ValueError(f"{identity!r} has signed this envelope")
    # Also what the stored size of an envelope is bounded by.
    if len(envelope.signatures) == MAX_SIGNATURES:
        raise ValueError(f"an envelope has at most {MAX_SIGNATURES} signatures")
    signature = Signature(identity.keyid, identity.sign(envelope_pae(envelope.payload)))
    return replace(envelope, signatures=(*envelope.signatures, signature))


def parse_envelope(content: bytes, *, where: str | None = None) -> Envelope:
    """Read an envelope; no signature is checked yet.

    Raises
    ------
    EvidenceError
        ``content`` is not what `Envelope.to_bytes` writes: other fields or types, base64 that is
        not the standard one with padding, a key id twice, none or too many signatures.
    """
    value = parse_canonical_json(content, limit=_MAX_ENVELOPE, where=where)
    fields = _envelope_fields(
        value, ("payload", "payloadType", "signatures"), "the envelope", where
    )
    if fields["payloadType"] != PAYLOAD_TYPE:
        raise _damaged_envelope(f"the envelope is not of type {PAYLOAD_TYPE}", where)
    payload = _from_base64(fields["payload"], "the payload", where)
    if len(payload) > MAX_BYTES:
        raise _damaged_envelope(f"the payload has more than {MAX_BYTES} bytes", where)
    listed = fields["signatures"]
    if not isinstance(listed, list) or not 1 <= len(listed) <= MAX_SIGNATURES:
        raise _damaged_envelope(f"the envelope needs 1 to {MAX_SIGNATURES} signatures", where)
    signatures = tuple(_envelope_signature(one, where) for one in listed)
    if len({one.keyid for one in signatures}) != len(signatures):
        raise _damaged_envelope("the envelope has two signatures of one key", where)
    return Envelope(payload, signatures)


def require_envelope_signatures(
    envelope: Envelope, keys: Sequence[PublicIdentity], *, where: str | None = None
) -> None:
    """Check that exactly ``keys`` signed, in any order, and that every signature is valid.

    Raises
    ------
    EvidenceError
        A signature is missing, invalid, or by somebody else; or two of ``keys`` are the same.
    """
    wanted = {key.keyid: key for key in keys}
    if not keys or len(wanted) != len(keys):
        raise _damaged_envelope("the signers expected are none, or one of them twice", where)
    signers = [one.keyid for one in envelope.signatures]
    # Exactly these: an added signature would change the digest that others refer to.
    if len(signers) != len(wanted) or set(signers) != set(wanted):
        raise _damaged_envelope(
            f"the envelope is signed by {_signer_names(signers)}, not by {_signer_names(wanted)}",
            where,
        )
    message = envelope_pae(envelope.payload)
    for one in envelope.signatures:
        try:
            wanted[one.keyid].verify(one.sig, message)
        except EvidenceError as error:
            raise EvidenceError(error.what, where=where, remedy=error.remedy) from error


def _envelope_signature(value: Json, where: str | None) -> Signature:
    fields = _envelope_fields(value, ("keyid", "sig"), "a signature", where)
    keyid, sig = fields["keyid"], _from_base64(fields["sig"], "a signature", where)
    if not (isinstance(keyid, str) and _KEYID.fullmatch(keyid)):
        raise _damaged_envelope("the key id of a signature is not 64 lower-case hex digits", where)
    if len(sig) != SIGNATURE_BYTES:
        raise _damaged_envelope(f"a signature has {len(sig)} bytes, not {SIGNATURE_BYTES}", where)
    return Signature(keyid, sig)


def _envelope_fields(
    value: Json, names: tuple[str, ...], what: str, where: str | None
) -> dict[str, Json]:
    # The order counts as well: canonical JSON has sorted keys.
    if not isinstance(value, dict) or tuple(value) != names:
        raise _damaged_envelope(
            f"{what} does not have exactly the fields {', '.join(names)}", where
        )
    return value


def _to_base64(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")


def _from_base64(value: Json, what: str, where: str | None) -> bytes:
    if isinstance(value, str):
        try:
            content = base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError):
            content = b""
        # Unused bits of the last character must be zero, too.
        if _to_base64(content) == value:
            return content
    raise _damaged_envelope(f"{what} is not standard base64", where)


def _signer_names(keyids: Sequence[str] | dict[str, PublicIdentity]) -> str:
    return ", ".join(sorted(keyid[:16] for keyid in keyids)) or "nobody"


def _damaged_envelope(what: str, where: str | None) -> EvidenceError:
    return EvidenceError(what, where=where, remedy="Get an unchanged copy from its author.")
