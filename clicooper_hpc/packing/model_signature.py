"""Signature over the files of a model in the form of OpenSSF Model Signing v1.0.

A Sigstore bundle v0.3 around a DSSE envelope around an in-toto statement that lists the SHA-256 of
every file of the model. The key is an elliptic curve key (P-256), the kind that the tools of that
standard take; they know no Ed25519. They check it with ``model_signing verify key``.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from typing import Any, Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_public_key,
    load_pem_private_key,
)

from clicooper_hpc.errors import EvidenceError, RunFolderError
from clicooper_hpc.packing.pack_files import PackedFile
from clicooper_hpc.provenance.envelope import PAYLOAD_TYPE, envelope_pae
from clicooper_hpc.provenance.statements import STATEMENT_TYPE

__all__ = ["ModelSigningKey", "check_model_signature", "model_root", "public_key_pem"]

_BUNDLE: Final = "application/vnd.dev.sigstore.bundle.v0.3+json"
_PREDICATE: Final = "https://model_signing/signature/v1.0"


class ModelSigningKey:
    """A P-256 key pair that signs models. Its secret half appears nowhere but in `to_pem`."""

    __slots__ = ("_key",)

    def __init__(self, key: ec.EllipticCurvePrivateKey) -> None:
        self._key = key

    def __repr__(self) -> str:
        return f"ModelSigningKey(sha256={hashlib.sha256(self.public).hexdigest()[:16]})"

    @classmethod
    def generate(cls) -> ModelSigningKey:
        """Make a key from the operating system's randomness."""
        return cls(ec.generate_private_key(ec.SECP256R1()))

    @classmethod
    def from_pem(cls, content: bytes, *, where: str) -> ModelSigningKey:
        """Read `to_pem`; `RunFolderError` if it is none."""
        try:
            key = load_pem_private_key(content, None)
        except (TypeError, ValueError, UnsupportedAlgorithm):
            key = None
        if not (
            isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, ec.SECP256R1)
        ):
            raise RunFolderError(
                "the key that signs models is damaged",
                where=where,
                remedy="Bring it back, or remove it: then another one is made and bound.",
            )
        return cls(key)

    def to_pem(self) -> bytes:
        """Return the private key as a PEM file (PKCS #8)."""
        return self._key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    @property
    def public(self) -> bytes:
        """The public key as DER SubjectPublicKeyInfo."""
        return self._key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

    def sign_model(self, name: str, files: Mapping[str, PackedFile]) -> bytes:
        """Return the bundle over the model ``name``: its ``files`` by path below its folder."""
        payload = _model_payload(name, files)
        bundle = {
            "mediaType": _BUNDLE,
            "verificationMaterial": {
                # The hint by which the tools of the standard tell a wrong key from a wrong model.
                "publicKey": {"hint": hashlib.sha256(public_key_pem(self.public)).hexdigest()},
                "tlogEntries": [],
            },
            "dsseEnvelope": {
                "payload": base64.b64encode(payload).decode(),
                "payloadType": PAYLOAD_TYPE,
                "signatures": [
                    {
                        "sig": base64.b64encode(
                            self._key.sign(envelope_pae(payload), ec.ECDSA(SHA256()))
                        ).decode(),
                        "keyid": "",
                    }
                ],
            },
        }
        return json.dumps(bundle).encode()


def public_key_pem(public: bytes) -> bytes:
    """Return a public key (DER) as a PEM file.

    Raises
    ------
    EvidenceError
        It is no P-256 key.
    """
    return _public_key(public).public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def check_model_signature(
    content: bytes, public: bytes, name: str, files: Mapping[str, PackedFile]
) -> None:
    """Check that the bundle ``content`` is one of the key ``public`` (DER) over this model.

    Raises
    ------
    EvidenceError
        It is another model, another key, or no bundle.
    """
    key = _public_key(public)
    try:
        bundle: Any = json.loads(content)
        envelope = bundle["dsseEnvelope"]
        hint = bundle["verificationMaterial"]["publicKey"]["hint"]
        (signature,) = envelope["signatures"]
        payload = base64.b64decode(envelope["payload"], validate=True)
        signed = base64.b64decode(signature["sig"], validate=True)
        form = (bundle["mediaType"], envelope["payloadType"])
    except (ValueError, LookupError, TypeError, RecursionError):
        raise EvidenceError("it is no bundle with one signature") from None
    if form != (_BUNDLE, PAYLOAD_TYPE):
        raise EvidenceError("it is a bundle of another kind")
    if hint != hashlib.sha256(public_key_pem(public)).hexdigest():
        raise EvidenceError("its hint names another key than the one the owner bound")
    # Not parsed: of these files there is one statement, and it is the one that must be signed.
    if payload != _model_payload(name, files):
        raise EvidenceError("what was signed is not the list of these files")
    try:
        key.verify(signed, envelope_pae(payload), ec.ECDSA(SHA256()))
    except InvalidSignature:
        raise EvidenceError("the signature is not one of the key that the owner bound") from None


def model_root(files: Mapping[str, PackedFile]) -> str:
    """Return the digest (hex) by which the standard names a model: over its files' digests."""
    return hashlib.sha256(
        b"".join(bytes.fromhex(files[path].sha256) for path in sorted(files))
    ).hexdigest()


def _model_payload(name: str, files: Mapping[str, PackedFile]) -> bytes:
    statement = {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": name, "digest": {"sha256": model_root(files)}}],
        "predicateType": _PREDICATE,
        "predicate": {
            "serialization": {
                "method": "files",
                "hash_type": "sha256",
                "allow_symlinks": False,
                "ignore_paths": [],
            },
            "resources": [
                {"name": path, "algorithm": "sha256", "digest": files[path].sha256}
                for path in sorted(files)
            ],
        },
    }
    return json.dumps(statement).encode()


def _public_key(public: bytes) -> ec.EllipticCurvePublicKey:
    try:
        key = load_der_public_key(public)
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not (isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1)):
        raise EvidenceError("the key that the owner bound for models is no P-256 key")
    return key
