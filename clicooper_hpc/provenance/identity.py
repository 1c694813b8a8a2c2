"""Ed25519 identities (RFC 8032) of owner and trainers.

The key id is SHA-256 of the SubjectPublicKeyInfo (RFC 8410), as other tools that read DSSE
envelopes compute it. Public keys of small order are refused: under such a key one signature fits
many messages, so its holder could disown whatever was signed.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Final

from cryptography.exceptions import InternalError, InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from clicooper_hpc.errors import EvidenceError, UsageError

__all__ = ["KEY_BYTES", "SIGNATURE_BYTES", "Identity", "PublicIdentity"]

KEY_BYTES: Final = 32
SIGNATURE_BYTES: Final = 64

# SubjectPublicKeyInfo of Ed25519 up to the key's 32 bytes (RFC 8410, section 4).
_SPKI = bytes.fromhex("302a300506032b6570032100")
_FIELD = 2**255 - 19
# y coordinates of the eight points whose order divides 8.
_Y_ORDER_8 = int("7a03ac9277fdc74ec6cc392cfa53202a0f67100d760b3cba4fd84d3d706a17c7", 16)
_SMALL_ORDER = frozenset({0, 1, _FIELD - 1, _Y_ORDER_8, _FIELD - _Y_ORDER_8})


@dataclass(frozen=True, slots=True)
class PublicIdentity:
    """Someone whose signatures can be checked. Equal when the keys are equal.

    Parameters
    ----------
    raw
        The 32 bytes of the public key.

    Raises
    ------
    EvidenceError
        ``raw`` is no public key, or one of small order.
    """

    raw: bytes
    _key: Ed25519PublicKey = field(init=False, repr=False, compare=False)
    _keyid: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if len(self.raw) != KEY_BYTES:
            raise _bad_identity_key(f"has {len(self.raw)} bytes, not {KEY_BYTES}")
        y = int.from_bytes(self.raw, "little") & (2**255 - 1)
        # RFC 8032 wants the reduced form; a second spelling would be a second key id.
        if y >= _FIELD:
            raise _bad_identity_key("is not in its shortest form")
        # Such a key signs many messages with one signature: its holder could disown any of them.
        if y in _SMALL_ORDER:
            raise _bad_identity_key("has small order: its signatures bind nobody")
        # Derived once: verifying a ledger asks for them at every signature.
        object.__setattr__(self, "_key", Ed25519PublicKey.from_public_bytes(self.raw))
        object.__setattr__(self, "_keyid", hashlib.sha256(_SPKI + self.raw).hexdigest())

    def __repr__(self) -> str:
        return f"PublicIdentity(keyid={self._keyid[:16]})"

    @classmethod
    def from_raw(cls, raw: bytes) -> PublicIdentity:
        """Read the 32 bytes of a public key."""
        return cls(bytes(raw))

    @classmethod
    def from_pem(cls, content: bytes) -> PublicIdentity:
        """Read a PEM file; `UsageError` unless it holds one Ed25519 public key."""
        try:
            key = load_pem_public_key(content)
        except (ValueError, UnsupportedAlgorithm, InternalError) as error:
            raise _bad_identity_pem("public", "is not PEM, or damaged") from error
        if not isinstance(key, Ed25519PublicKey):
            raise _bad_identity_pem("public", "is of another kind than Ed25519")
        return cls(key.public_bytes(Encoding.Raw, PublicFormat.Raw))

    @property
    def keyid(self) -> str:
        """SHA-256 of the DER SubjectPublicKeyInfo as 64 lower-case hexadecimal digits."""
        return self._keyid

    def to_pem(self) -> bytes:
        """Return the key as a PEM file (SubjectPublicKeyInfo)."""
        return self._key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    def verify(self, signature: bytes, message: bytes) -> None:
        """Raise `EvidenceError` unless ``signature`` is this key's over ``message``."""
        try:
            self._key.verify(signature, message)
        except InvalidSignature:
            raise EvidenceError(
                f"the signature is not one of key {self._keyid[:16]} over this content",
                remedy="The content or the signature was changed, or another key signed.",
            ) from None


class Identity:
    """A key pair. Its secret half appears nowhere but in `to_pem`.

    Parameters
    ----------
    key
        The private key.
    """

    __slots__ = ("_key", "public")

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self.public: Final = PublicIdentity(
            key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        )

    def __repr__(self) -> str:
        return f"Identity(keyid={self.keyid[:16]})"

    @classmethod
    def generate(cls) -> Identity:
        """Make a new identity from the operating system's randomness."""
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def from_pem(cls, content: bytes, password: bytes | None = None) -> Identity:
        """Read `to_pem`; `UsageError` if the file is damaged or the password does not open it."""
        try:
            key = load_pem_private_key(content, password)
        # InternalError: of a key of another length than its kind has.
        except (TypeError, ValueError, UnsupportedAlgorithm, InternalError) as error:
            raise _bad_identity_pem(
                "private", "is not PEM, damaged, or not opened by this password"
            ) from error
        if not isinstance(key, Ed25519PrivateKey):
            raise _bad_identity_pem("private", "is of another kind than Ed25519")
        return cls(key)

    @property
    def keyid(self) -> str:
        """Key id of the public half."""
        return self.public.keyid

    def to_pem(self, password: bytes | None = None) -> bytes:
        """Return the private key as a PEM file (PKCS #8), encrypted if there is a password."""
        protection: KeySerializationEncryption = (
            BestAvailableEncryption(password) if password else NoEncryption()
        )
        return self._key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, protection)

    def sign(self, message: bytes) -> bytes:
        """Sign ``message`` (64 bytes, deterministic)."""
        return self._key.sign(message)


def _bad_identity_key(why: str) -> EvidenceError:
    return EvidenceError(f"the Ed25519 public key {why}", remedy="Ask its owner for the right key.")


def _bad_identity_pem(kind: str, why: str) -> UsageError:
    return UsageError(
        f"the {kind} key file {why}", remedy="Make identities with `clicooper keys new`."
    )
