"""Checkpoints of the ledger as signed notes (C2SP ``signed-note`` and ``tlog-checkpoint``).

A checkpoint is three lines: the ledger's origin, its size, its root in base64. Who signs it says
that the ledger had this content; two checkpoints of one origin that do not extend each other are a
fork, shown by the signatures alone. Signatures are of type 0x01 (Ed25519 over the text), for the
owner and for the trainers who cosign: a cosignature here carries no clock, order is the ledger's.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final, Self, TypeAlias

from clicooper_hpc.errors import EvidenceError
from clicooper_hpc.provenance.canonical_json import MAX_INTEGER
from clicooper_hpc.provenance.identity import SIGNATURE_BYTES, Identity, PublicIdentity

__all__ = [
    "OWNER_NAME",
    "NoteSignature",
    "SignedCheckpoint",
    "TreeCheckpoint",
    "checkpoint_key_hash",
    "checkpoint_origin",
    "checkpoint_signer",
]

#: Name under which the owner signs checkpoints.
OWNER_NAME: Final = "owner"

NoteSignature: TypeAlias = tuple[str, bytes]
"""Name of the signer; 4 bytes of `checkpoint_key_hash`, then the 64 bytes of the signature."""

_ED25519: Final = b"\x01"
_HASH_BYTES = 4
_ROOT_BYTES = 32
_MAX_TEXT = 1 << 18
_ORIGIN = re.compile(r"[!-~]{1,200}")
_NAME = re.compile(r"[!-*,-~]{1,100}")  # printable ASCII without the plus sign
# One spelling for each number: leading zeros would make two notes of one state.
_SIZE = re.compile(r"0|[1-9][0-9]{0,15}")
_DASH = "\u2014 "


@dataclass(frozen=True, slots=True)
class TreeCheckpoint:
    """State of a ledger.

    Parameters
    ----------
    origin
        Name of the ledger: printable ASCII, no spaces.
    size
        Number of entries.
    root
        Root of their tree (32 bytes), see `merkle`.

    Raises
    ------
    ValueError
        A value is outside these bounds.
    """

    origin: str
    size: int
    root: bytes

    def __post_init__(self) -> None:
        if not _ORIGIN.fullmatch(self.origin):
            raise ValueError("an origin is 1 to 200 printable ASCII characters without spaces")
        if not 0 <= self.size <= MAX_INTEGER:
            raise ValueError("the size of a ledger is at least 0 and below 2**53")
        if len(self.root) != _ROOT_BYTES:
            raise ValueError(f"a root has {_ROOT_BYTES} bytes")

    def text(self) -> str:
        """Return the note text, the three lines that are signed."""
        return f"{self.origin}\n{self.size}\n{_to_base64(self.root)}\n"


@dataclass(frozen=True, slots=True)
class SignedCheckpoint:
    """A checkpoint and its signatures, each a name and ``key_hash || signature`` (68 bytes)."""

    checkpoint: TreeCheckpoint
    signatures: tuple[NoteSignature, ...]

    @classmethod
    def sign(cls, checkpoint: TreeCheckpoint, identity: Identity, name: str) -> SignedCheckpoint:
        """Sign ``checkpoint`` in the name of ``name``."""
        return cls(checkpoint, ()).cosign(identity, name)

    @classmethod
    def parse(cls, text: str, *, where: str | None = None) -> SignedCheckpoint:
        """Read a signed note; no signature is checked yet.

        Raises
        ------
        EvidenceError
            ``text`` is not what `to_text` writes: extra lines, other spellings of size or base64,
            no signature, a name twice.
        """
        # Before it is split into lines.
        if len(text) > _MAX_TEXT:
            raise _damaged_checkpoint(f"has more than {_MAX_TEXT} characters", where)
        lines = text.split("\n")
        if len(lines) < 6 or lines[3] or lines[-1]:
            raise _damaged_checkpoint("is not three lines, an empty line and signatures", where)
        origin, size, root = lines[:3]
        if not (_ORIGIN.fullmatch(origin) and _SIZE.fullmatch(size) and int(size) <= MAX_INTEGER):
            raise _damaged_checkpoint("has an impossible origin or size", where)
        checkpoint = TreeCheckpoint(origin, int(size), _from_base64(root, _ROOT_BYTES, where))
        signatures = tuple(_checkpoint_signature(line, where) for line in lines[4:-1])
        if len({name for name, _ in signatures}) != len(signatures):
            raise _damaged_checkpoint("has two signatures of one name", where)
        return cls(checkpoint, signatures)

    def cosign(self, identity: Identity, name: str) -> SignedCheckpoint:
        """Return the note with the signature of ``identity`` added under ``name``."""
        if not _NAME.fullmatch(name):
            raise ValueError("a signer's name is printable ASCII without spaces and plus signs")
        # A second line of one name would make it open which of them counts.
        if any(name == known for known, _ in self.signatures):
            raise ValueError(f"{name} has signed this checkpoint")
        signature = identity.sign(self.checkpoint.text().encode("ascii"))
        added = (name, checkpoint_key_hash(name, identity.public) + signature)
        return replace(self, signatures=(*self.signatures, added))

    def with_signature_of(self, name: str, other: SignedCheckpoint, *, where: str) -> Self:
        """Return this note with the signature that ``other``, a verified one, has under ``name``.

        Raises
        ------
        EvidenceError
            ``other`` is of another ledger or size.
        """
        if other.checkpoint != self.checkpoint:
            raise EvidenceError("is of another ledger", where=where)
        added = tuple(one for one in other.signatures if one[0] == name)
        return replace(self, signatures=(*self.signatures, *added))

    def to_text(self) -> str:
        """Return the signed note."""
        lines = (f"{_DASH}{name} {_to_base64(value)}\n" for name, value in self.signatures)
        return f"{self.checkpoint.text()}\n{''.join(lines)}"

    def verify(self, keys: Mapping[str, PublicIdentity], *, where: str | None = None) -> None:
        """Check that exactly the named keys signed, in any order, each with a valid signature.

        Raises
        ------
        EvidenceError
            A signature is missing, invalid, of another key or under another name.
        """
        names = {name for name, _ in self.signatures}
        # C2SP lets readers skip unknown signers; here they would change what was stored.
        if not keys or names != set(keys) or len(names) != len(self.signatures):
            raise _damaged_checkpoint(
                f"is signed by {', '.join(sorted(names)) or 'nobody'}, not by"
                f" {', '.join(sorted(keys)) or 'anybody known'}",
                where,
            )
        message = self.checkpoint.text().encode("ascii")
        for name, value in self.signatures:
            if value[:_HASH_BYTES] != checkpoint_key_hash(name, keys[name]):
                raise _damaged_checkpoint(f"is signed with another key than that of {name}", where)
            try:
                keys[name].verify(value[_HASH_BYTES:], message)
            except EvidenceError as error:
                raise _damaged_checkpoint(f"has an invalid signature of {name}", where) from error


def checkpoint_origin(run_id: str) -> str:
    """Name of a run's ledger in its checkpoints."""
    return f"clicooper-hpc/{run_id}"


def checkpoint_signer(segment: int) -> str:
    """Name under which the trainer of ``segment`` (from 1) signs checkpoints."""
    return f"trainer-{segment}"


def checkpoint_key_hash(name: str, key: PublicIdentity) -> bytes:
    """First 4 bytes of SHA-256(name || 0x0A || 0x01 || key): a hint which key signed."""
    content = name.encode("ascii") + b"\n" + _ED25519 + key.raw
    return hashlib.sha256(content).digest()[:_HASH_BYTES]


def _checkpoint_signature(line: str, where: str | None) -> NoteSignature:
    name, _, value = line.removeprefix(_DASH).partition(" ")
    if not (line.startswith(_DASH) and _NAME.fullmatch(name)):
        raise _damaged_checkpoint("has a line that is no signature", where)
    return name, _from_base64(value, _HASH_BYTES + SIGNATURE_BYTES, where)


def _to_base64(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")


def _from_base64(text: str, size: int, where: str | None) -> bytes:
    try:
        content = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        content = b""
    # Unused bits of the last character must be zero, too.
    if len(content) != size or _to_base64(content) != text:
        raise _damaged_checkpoint(f"has a field that is not {size} bytes in standard base64", where)
    return content


def _damaged_checkpoint(what: str, where: str | None) -> EvidenceError:
    return EvidenceError(
        f"the checkpoint {what}", where=where, remedy="Get an unchanged copy from its signers."
    )
