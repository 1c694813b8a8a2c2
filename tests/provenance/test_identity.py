"""Identities: RFC 8032 vectors, key files, and keys and signatures that must be refused."""

from __future__ import annotations

import base64
import hashlib
import pickle

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, x25519
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_public_key,
)

from clicooper_hpc.errors import EvidenceError, UsageError
from clicooper_hpc.provenance.identity import Identity, PublicIdentity

# RFC 8032, section 7.1, tests 1 to 3: secret, public, message, signature.
VECTORS = [
    (
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701c"
        "f9b46bd25bf5f0595bbe24655141438e7a100b",
    ),
    (
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0"
        "f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    ),
    (
        "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f76098"
        "4dc6594a7c15e9716ed28dc027beceea1ec40a",
    ),
]

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P

Point = tuple[int, int]


def from_secret(secret: str) -> Identity:
    return Identity(Ed25519PrivateKey.from_private_bytes(bytes.fromhex(secret)))


def add(a: Point, b: Point) -> Point:
    """Edwards addition of RFC 8032, section 5.1.4, in affine coordinates."""
    product = D * a[0] * b[0] * a[1] * b[1]
    x = (a[0] * b[1] + b[0] * a[1]) * pow(1 + product, -1, P) % P
    y = (a[1] * b[1] + a[0] * b[0]) * pow(1 - product, -1, P) % P
    return x, y


def times(scalar: int, point: Point) -> Point:
    result = (0, 1)
    for bit in bin(scalar)[2:]:
        result = add(result, result)
        if bit == "1":
            result = add(result, point)
    return result


def decompress(y: int) -> Point | None:
    xx = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(xx, (P + 3) // 8, P)
    if x * x % P != xx:
        x = x * pow(2, (P - 1) // 4, P) % P
    return (x, y) if x * x % P == xx else None


def small_order_points() -> set[Point]:
    points: set[Point] = set()
    y = 2
    while len(points) < 8:
        point = decompress(y)
        if point is not None:
            part = times(L, point)  # what is left of it has an order that divides 8
            points |= {times(scalar, part) for scalar in range(8)}
        y += 1
    return points


def compress(point: Point) -> bytes:
    return (point[1] | (point[0] & 1) << 255).to_bytes(32, "little")


@pytest.mark.parametrize(("secret", "public", "message", "signature"), VECTORS)
def test_vectors_of_the_standard(secret: str, public: str, message: str, signature: str) -> None:
    identity = from_secret(secret)
    assert identity.public.raw.hex() == public
    assert identity.sign(bytes.fromhex(message)).hex() == signature
    PublicIdentity.from_raw(bytes.fromhex(public)).verify(
        bytes.fromhex(signature), bytes.fromhex(message)
    )


def test_keyid_is_the_digest_of_the_public_key_info() -> None:
    identity = from_secret(VECTORS[0][0])
    der = load_pem_public_key(identity.public.to_pem()).public_bytes(
        Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    )
    assert identity.keyid == identity.public.keyid == hashlib.sha256(der).hexdigest()
    assert identity.keyid == "06e3fd8fda29bb60ab59557de61edb0aecdb231134be30e75b455f8e1b792fa9"


def test_public_key_files() -> None:
    public = Identity.generate().public
    assert PublicIdentity.from_pem(public.to_pem()) == public
    assert PublicIdentity.from_raw(public.raw) == public
    assert len({public, PublicIdentity.from_raw(public.raw), Identity.generate().public}) == 2


@pytest.mark.parametrize("password", [None, b"a long password"])
def test_private_key_files(password: bytes | None) -> None:
    identity = Identity.generate()
    content = identity.to_pem(password)
    assert (b"ENCRYPTED" in content) == (password is not None)
    again = Identity.from_pem(content, password)
    assert again.public == identity.public
    assert again.sign(b"x") == identity.sign(b"x")


def test_a_wrong_password_is_the_users_mistake() -> None:
    identity = Identity.generate()
    for content, password in (
        (identity.to_pem(b"right"), b"wrong"),
        (identity.to_pem(b"right"), None),
        (identity.to_pem(None), b"needless"),
    ):
        with pytest.raises(UsageError, match="password"):
            Identity.from_pem(content, password)


def test_other_files_are_the_users_mistake() -> None:
    pem, info = Encoding.PEM, PublicFormat.SubjectPublicKeyInfo
    others = (x25519.X25519PrivateKey.generate(), ec.generate_private_key(ec.SECP256R1()))
    for key in others:
        with pytest.raises(UsageError, match="another kind"):
            PublicIdentity.from_pem(key.public_key().public_bytes(pem, info))
        with pytest.raises(UsageError, match="another kind"):
            Identity.from_pem(key.private_bytes(pem, PrivateFormat.PKCS8, NoEncryption()), None)
    identity = Identity.generate()
    for content in (b"", b"no key", identity.to_pem(None), identity.public.to_pem()[:60]):
        with pytest.raises(UsageError, match="public key file"):
            PublicIdentity.from_pem(content)
    for content in (b"", b"no key", identity.public.to_pem(), identity.to_pem(None)[:60]):
        with pytest.raises(UsageError, match="private key file"):
            Identity.from_pem(content, None)


@pytest.mark.parametrize("kind", ["2b6570", "2b656e", "2b6571", "2b656f"])
def test_a_key_of_another_length_than_its_kind_has_is_the_users_mistake(kind: str) -> None:
    """Ed25519, X25519, Ed448, X448 (RFC 8410), of 0 to 59 bytes; only one is a key of ours."""
    for size in range(60):
        inner = bytes([4, size, *range(size)])
        whole = bytes.fromhex(f"02010030050603{kind}") + bytes([4, len(inner)]) + inner
        content = base64.encodebytes(bytes([0x30, len(whole)]) + whole)
        content = b"-----BEGIN PRIVATE KEY-----\n" + content + b"-----END PRIVATE KEY-----\n"
        if (kind, size) == ("2b6570", 32):
            Identity.from_pem(content)
        else:
            with pytest.raises(UsageError):
                Identity.from_pem(content)


def test_the_secret_is_nowhere_to_be_seen() -> None:
    secret = VECTORS[0][0]
    identity = from_secret(secret)
    for text in (repr(identity), str(identity), f"{identity}", repr(identity.public)):
        assert secret not in text
        assert secret[:16] not in text
        assert identity.keyid[:16] in text
    assert not hasattr(identity, "__dict__")
    with pytest.raises(TypeError):
        pickle.dumps(identity)


def test_a_signature_is_of_one_key_over_one_message() -> None:
    identity, other = Identity.generate(), Identity.generate()
    signature = identity.sign(b"message")
    identity.public.verify(signature, b"message")
    cases = [
        (other.public, signature, b"message"),
        (identity.public, signature, b"message2"),
        (identity.public, signature[:-1], b"message"),
        (identity.public, signature + b"\x00", b"message"),
        (identity.public, b"", b"message"),
    ]
    for place in range(64):
        changed = bytearray(signature)
        changed[place] ^= 1
        cases.append((identity.public, bytes(changed), b"message"))
    for key, value, message in cases:
        with pytest.raises(EvidenceError, match=key.keyid[:16]):
            key.verify(value, message)


def test_a_signature_has_no_second_form() -> None:
    identity = Identity.generate()
    signature = identity.sign(b"message")
    scalar = int.from_bytes(signature[32:], "little") + L
    with pytest.raises(EvidenceError):
        identity.public.verify(signature[:32] + scalar.to_bytes(32, "little"), b"message")


def test_keys_that_bind_nobody_are_refused() -> None:
    points = small_order_points()
    assert len(points) == 8
    for point in points:
        assert times(8, point) == (0, 1)
        with pytest.raises(EvidenceError, match="small order"):
            PublicIdentity.from_raw(compress(point))


def test_such_a_key_would_sign_everything() -> None:
    # Why they are refused: R = 8 B, S = 8 fits every message under the neutral element.
    neutral = Ed25519PublicKey.from_public_bytes(compress((0, 1)))
    base = decompress(4 * pow(5, -1, P) % P)
    assert base is not None
    base = base if base[0] % 2 == 0 else (P - base[0], base[1])
    signature = compress(times(8, base)) + (8).to_bytes(32, "little")
    for message in (b"one thing", b"its contrary"):
        neutral.verify(signature, message)


@pytest.mark.parametrize("y", [P, P + 1, P + 18, 2**255 - 1])
@pytest.mark.parametrize("sign", [0, 1])
def test_keys_in_a_second_form_are_refused(y: int, sign: int) -> None:
    with pytest.raises(EvidenceError, match="shortest form"):
        PublicIdentity.from_raw((y | sign << 255).to_bytes(32, "little"))


@pytest.mark.parametrize("size", [0, 31, 33, 64])
def test_keys_of_another_length_are_refused(size: int) -> None:
    with pytest.raises(EvidenceError, match=f"{size} bytes"):
        PublicIdentity.from_raw(b"\x05" * size)
