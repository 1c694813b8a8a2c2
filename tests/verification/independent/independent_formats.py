"""Formats of docs/provenance.md a second time: hashes, trees, JSON, envelopes, notes, tensors.

These modules are written from that page, docs/hdf5.md and the standards they name (RFC 8032, 8785,
9162, DSSE, C2SP signed notes), with the standard library, cryptography, h5py and numpy. Nothing of
the package under test is imported in any of them.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
import struct
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

PREFIX = b"clicooper/v1/"
PAYLOAD_TYPE = "application/vnd.in-toto+json"
#: DER of SubjectPublicKeyInfo before the 32 bytes of an Ed25519 key.
SPKI = bytes.fromhex("302a300506032b6570032100")
P25519 = 2**255 - 19
#: y of all points of small order: 1, -1, 0, and the two of order 8 (RFC 8032, section 5.1).
SMALL_ORDER_Y = {
    0,
    1,
    P25519 - 1,
    2707385501144840649318225287225658788936804267575313519463743609750303021,
    55188659117513257062467267217118295137698188065244968500265048394206261417927,
}


class MismatchError(Exception):
    """What is looked at is not what the page says; the text names what and where."""


def tagged(tag: str, content: bytes) -> str:
    """SHA-256 under a tag, as 64 hexadecimal digits."""
    return hashlib.sha256(PREFIX + tag.encode() + b"\x00" + content).hexdigest()


def tree_root(entries: Sequence[bytes]) -> bytes:
    """Root of the RFC 9162 tree over `entries`."""
    if not entries:
        return hashlib.sha256(b"").digest()
    level = [hashlib.sha256(b"\x00" + entry).digest() for entry in entries]
    # Joining neighbours and carrying an odd last one up gives the same tree as RFC 9162's splits.
    while len(level) > 1:
        joined = [
            hashlib.sha256(b"\x01" + level[i] + level[i + 1]).digest()
            for i in range(0, len(level) - 1, 2)
        ]
        level = joined + level[len(level) & ~1 :]
    return level[0]


# -- canonical JSON -----------------------------------------------------------------------------

SHORT_ESCAPES = {
    '"': '\\"',
    "\\": "\\\\",
    "\b": "\\b",
    "\f": "\\f",
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t",
}


def _text(value: str) -> str:
    return '"' + "".join(
        SHORT_ESCAPES.get(c) or (f"\\u{ord(c):04x}" if ord(c) < 32 else c) for c in value
    ) + '"'  # fmt: skip


def canonical(value: Any, depth: int = 1) -> str:
    """Canonical text of a value, or `MismatchError` where the subset does not hold it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        if abs(value) > 2**53 - 1:
            raise MismatchError("an integer above 2^53 - 1")
        return str(value)
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            raise MismatchError("text with a lone surrogate") from None
        if unicodedata.normalize("NFC", value) != value:
            raise MismatchError("text that is not in form NFC")
        return _text(value)
    if isinstance(value, list | dict):
        if depth > 16:
            raise MismatchError("more than 16 levels")
        if isinstance(value, list):
            return "[" + ",".join(canonical(item, depth + 1) for item in value) + "]"
        if not all(isinstance(key, str) and key.isascii() for key in value):
            raise MismatchError("a key that is not ASCII")
        return (
            "{"
            + ",".join(_text(k) + ":" + canonical(value[k], depth + 1) for k in sorted(value))
            + "}"
        )
    raise MismatchError(f"{type(value).__name__} in canonical JSON")


def read_canonical(data: bytes) -> Any:
    """Value of canonical JSON; `MismatchError` if the bytes are not its one canonical form."""
    if len(data) > 65536:
        raise MismatchError("more than 65,536 bytes")
    try:
        value = json.loads(data.decode())
        same = canonical(value).encode() == data
    except (ValueError, RecursionError) as error:
        raise MismatchError(f"no JSON ({error})") from None
    if not same:
        raise MismatchError("not in canonical form")
    return value


def unbase64(text: Any) -> bytes:
    """Bytes of base64 with padding and nothing else in it."""
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError, TypeError):
        raise MismatchError("no base64") from None
    if base64.b64encode(data).decode() != text:
        raise MismatchError("base64 with bits left over")
    return data


# -- keys, envelopes, notes ---------------------------------------------------------------------


def key_id(public: bytes) -> str:
    """Identifier of a public key: SHA-256 of its SubjectPublicKeyInfo."""
    return hashlib.sha256(SPKI + public).hexdigest()


def signature_holds(public: bytes, signature: bytes, content: bytes) -> bool:
    """Whether the Ed25519 signature of `content` holds; a key of small order signs nothing."""
    y = int.from_bytes(public, "little") & (2**255 - 1)
    if len(public) != 32 or y % P25519 in SMALL_ORDER_Y:
        return False
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, content)
    except (InvalidSignature, ValueError):
        return False
    return True


@dataclass(frozen=True)
class Envelope:
    """A signed statement as stored: its text, payload and (key id, signature) pairs."""

    text: bytes
    payload: bytes
    statement: dict[str, Any]
    signatures: tuple[tuple[str, bytes], ...]

    @property
    def digest(self) -> str:
        """How statements refer to it."""
        return tagged("envelope", self.text)

    @property
    def payload_digest(self) -> str:
        """How hand-offs are referred to."""
        return tagged("payload", self.payload)

    @property
    def predicate(self) -> dict[str, Any]:
        """What is stated."""
        found: dict[str, Any] = self.statement["predicate"]
        return found

    def signed_by(self, *publics: str) -> bool:
        """Whether exactly these keys (hex) signed, in any order, and every signature holds."""
        pae = b"DSSEv1 28 " + PAYLOAD_TYPE.encode() + b" %d " % len(self.payload) + self.payload
        keys = {key_id(bytes.fromhex(public)): bytes.fromhex(public) for public in publics}
        return {key for key, _ in self.signatures} == set(keys) and all(
            signature_holds(keys[key], sig, pae) for key, sig in self.signatures
        )


def read_envelope(text: bytes) -> Envelope:
    """Parse a stored envelope; `MismatchError` says what is not as it must be."""
    if len(text) > 32768:
        raise MismatchError("more than 32,768 bytes")
    outer = read_canonical(text)
    if not isinstance(outer, dict) or set(outer) != {"payload", "payloadType", "signatures"}:
        raise MismatchError("no DSSE envelope")
    if outer["payloadType"] != PAYLOAD_TYPE:
        raise MismatchError("another payloadType")
    listed = outer["signatures"]
    if not isinstance(listed, list) or not 1 <= len(listed) <= 16:
        raise MismatchError("not 1 to 16 signatures")
    signatures = []
    for one in listed:
        if not isinstance(one, dict) or set(one) != {"keyid", "sig"}:
            raise MismatchError("a signature with other fields")
        sig = unbase64(one["sig"])
        if len(sig) != 64 or not is_hex(one["keyid"]):
            raise MismatchError("a signature of another size")
        signatures.append((one["keyid"], sig))
    if len({key for key, _ in signatures}) < len(signatures):
        raise MismatchError("a key twice")
    payload = unbase64(outer["payload"])
    statement = read_canonical(payload)
    if not isinstance(statement, dict):
        raise MismatchError("the payload is no object")
    return Envelope(text, payload, statement, tuple(signatures))


def is_hex(value: Any, size: int = 32) -> bool:
    """Whether a value is `size` bytes as lower-case hexadecimal digits."""
    return isinstance(value, str) and re.fullmatch(f"[0-9a-f]{{{2 * size}}}", value) is not None


@dataclass(frozen=True)
class Note:
    """A checkpoint: what it says, and (name, 4 + 64 bytes) of every signature line."""

    text: bytes
    origin: str
    size: int
    root: bytes
    signatures: tuple[tuple[str, bytes], ...]

    def signed_by(self, name: str, public: str) -> bool:
        """Whether the line of `name` is there once, with the hint and signature of this key."""
        key = bytes.fromhex(public)
        hint = hashlib.sha256(name.encode() + b"\n\x01" + key).digest()[:4]
        lines = [data for who, data in self.signatures if who == name]
        return (
            len(lines) == 1
            and lines[0][:4] == hint
            and signature_holds(key, lines[0][4:], self.text)
        )


NOTE = re.compile(
    r"(clicooper-hpc/([0-9a-f]{32})\n(0|[1-9][0-9]*)\n([A-Za-z0-9+/=]+)\n)\n((?:— \S+ \S+\n)+)"
)


def read_note(text: str) -> Note:
    """Parse a C2SP signed note with three lines of text."""
    match = NOTE.fullmatch(text)
    if not match:
        raise MismatchError("no signed note of three lines")
    if len(match[3]) > 16 or int(match[3]) > 2**53 - 1:
        raise MismatchError("a ledger of more than 2^53 - 1 entries")
    root = unbase64(match[4])
    signatures = []
    for line in match[5].splitlines():
        _, name, data = line.split(" ")
        signatures.append((name, unbase64(data)))
    if len(root) != 32 or any(len(data) != 68 for _, data in signatures):
        raise MismatchError("a root or signature of another size")
    if len({name for name, _ in signatures}) < len(signatures):
        raise MismatchError("a name twice")
    return Note(match[1].encode(), match[2], int(match[3]), root, tuple(signatures))


# -- tensors ------------------------------------------------------------------------------------

BYTES_OF = {
    "F64": 8,
    "I64": 8,
    "F32": 4,
    "I32": 4,
    "F16": 2,
    "BF16": 2,
    "I16": 2,
    "U8": 1,
    "I8": 1,
    "BOOL": 1,
}


def read_safetensors(
    data: bytes,
) -> tuple[dict[str, tuple[str, list[int], bytes]], dict[str, str]]:
    """Dtype, shape and bytes of every tensor, which must fill the file, and the file's texts."""
    if len(data) < 8:
        raise MismatchError("no safetensors file")
    (length,) = struct.unpack_from("<Q", data)
    try:
        header = json.loads(data[8 : 8 + length].decode())
        texts = header.pop("__metadata__", {})
        body = data[8 + length :]
        tensors, end = {}, 0
        for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
            first, last = entry["data_offsets"]
            count = 1
            for edge in entry["shape"]:
                count *= edge
            if first != end or last - first != count * BYTES_OF[entry["dtype"]]:
                raise MismatchError(f"tensor {name} lies elsewhere than it must")
            tensors[name] = (entry["dtype"], entry["shape"], body[first:last])
            end = last
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise MismatchError(f"no safetensors file ({error})") from None
    if end != len(body):
        raise MismatchError("bytes behind the last tensor")
    return tensors, texts


def tensors_digest(tensors: dict[str, tuple[str, list[int], bytes]], prefix: str = "") -> str:
    """Digest of all tensors under a prefix, which is taken off their names."""
    entries = []
    for name in sorted(tensors):
        if not name.startswith(prefix):
            continue
        dtype, shape, data = tensors[name]
        pieces = [data[i : i + 2**20] for i in range(0, len(data), 2**20)]
        entry = {
            "chunks": tree_root(pieces).hex(),
            "dtype": dtype,
            "name": name[len(prefix) :],
            "shape": shape,
        }
        entries.append(canonical(entry).encode())
    return tagged("tensors", struct.pack(">Q", len(entries)) + tree_root(entries))
