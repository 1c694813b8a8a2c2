"""Keys and envelopes under the key ids that securesystemslib derives, as values to write.

securesystemslib, the library under in-toto and TUF tools, tries a signature only with the key of
its own key id, and takes that over another text than DSSE readers here: SHA-256 of the key's
canonical JSON. A key id is a hint outside what is signed (DSSE v1), so it may be exchanged.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace

from clicooper_hpc.errors import EvidenceError
from clicooper_hpc.provenance.canonical_json import Json, encode_canonical_json
from clicooper_hpc.provenance.envelope import parse_envelope
from clicooper_hpc.provenance.identity import PublicIdentity

__all__ = ["encode_foreign_keys", "foreign_keyid", "with_foreign_keyids"]


def foreign_keyid(key: PublicIdentity) -> str:
    """Return the key id that securesystemslib gives ``key``: 64 hexadecimal digits."""
    return hashlib.sha256(encode_canonical_json(_foreign_key(key))).hexdigest()


def encode_foreign_keys(keys: Mapping[str, PublicIdentity]) -> bytes:
    """Return ``keys`` by name as JSON: key id to a key as `Key.from_dict` of the library reads it.

    Each has its name in the further field ``name``.
    """
    content: dict[str, Json] = {
        foreign_keyid(key): {**_foreign_key(key), "name": name} for name, key in keys.items()
    }
    return encode_canonical_json(content) + b"\n"


def with_foreign_keyids(entry: bytes, keys: Sequence[PublicIdentity]) -> bytes:
    """Return the envelope ``entry`` with the foreign key ids of those of ``keys`` that signed it.

    Payload and signatures stay as they are. What is no envelope is returned unchanged, for proofs
    are exported whether or not they hold.
    """
    try:
        envelope = parse_envelope(entry)
    except EvidenceError:
        return entry
    keyids = {key.keyid: foreign_keyid(key) for key in keys}
    signatures = tuple(
        replace(one, keyid=keyids.get(one.keyid, one.keyid)) for one in envelope.signatures
    )
    return replace(envelope, signatures=signatures).to_bytes()


def _foreign_key(key: PublicIdentity) -> dict[str, Json]:
    return {"keytype": "ed25519", "keyval": {"public": key.raw.hex()}, "scheme": "ed25519"}
