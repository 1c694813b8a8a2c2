"""Envelopes: what they are, who reads them, and every change that must be refused."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st
from securesystemslib.dsse import Envelope as OtherEnvelope
from securesystemslib.signer import Key, SSlibKey  # type: ignore[attr-defined]  # no __all__

from clicooper_hpc.errors import EvidenceError
from clicooper_hpc.provenance.canonical_json import (
    MAX_BYTES,
    Json,
    encode_canonical_json,
    parse_canonical_json,
)
from clicooper_hpc.provenance.envelope import (
    MAX_SIGNATURES,
    PAYLOAD_TYPE,
    Envelope,
    Signature,
    countersign_envelope,
    envelope_pae,
    parse_envelope,
    require_envelope_signatures,
    sign_envelope,
)
from clicooper_hpc.provenance.identity import Identity, PublicIdentity

OWNER, TRAINER, STRANGER = (
    Identity(Ed25519PrivateKey.from_private_bytes(bytes([value]) * 32)) for value in (1, 2, 3)
)
PAYLOAD = encode_canonical_json(
    {"_type": "https://in-toto.io/Statement/v1", "predicate": {"stage": 3}}
)
ONE = sign_envelope(PAYLOAD, OWNER)
BOTH = countersign_envelope(ONE, TRAINER)

Change = Callable[[dict[str, Json]], object]


def changed(change: Change) -> bytes:
    """Return `BOTH` as a file whose JSON object went through ``change``."""
    value = parse_canonical_json(BOTH.to_bytes(), limit=1 << 20)
    assert isinstance(value, dict)
    change(value)
    return encode_canonical_json(value)


def other_reader(content: bytes) -> OtherEnvelope:
    return OtherEnvelope.from_dict(json.loads(content))


def other_key(key: PublicIdentity) -> Key:
    return SSlibKey(key.keyid, "ed25519", "ed25519", {"public": key.raw.hex()})


def test_what_is_signed_is_the_encoding_of_the_specification() -> None:
    assert envelope_pae(b"{}") == b"DSSEv1 28 application/vnd.in-toto+json 2 {}"
    assert envelope_pae(b"") == b"DSSEv1 28 application/vnd.in-toto+json 0 "
    OWNER.public.verify(ONE.signatures[0].sig, envelope_pae(PAYLOAD))


def test_golden_file() -> None:
    assert BOTH.to_bytes() == (
        b'{"payload":"eyJfdHlwZSI6Imh0dHBzOi8vaW4tdG90by5pby9TdGF0ZW1lbnQvdjEiLCJwcmVkaWNh'
        b'dGUiOnsic3RhZ2UiOjN9fQ==","payloadType":"application/vnd.in-toto+json","signatur'
        b'es":[{"keyid":"fd110d301d2f077de1414b8f99f441b1403fab207b2052fbd2c065e4ee8e7dc2"'
        b',"sig":"hOJv0RLQloGpRC4Z9LvWxCtmBOQv7rlNtYWWH+ejvxs23vH0u/ZM0lGjX2y4llbNCU+cOWEH'
        b'MmrVyrBAEt8QCQ=="},{"keyid":"47dea58ea00fae9417ee19d76755bfef690899021132effb04f'
        b'e1f9e4f0c8059","sig":"hGOHqBb7gBkziurgZB0OHlLadds2HgwhghxTGMH/5y2PwwGyF2hUJvnbTu'
        b'msaJFrpDFlocyJi8Q9MULXbMQ+Cw=="}]}'
    )
    assert str(BOTH.digest()) == (
        "clicooper/v1/envelope:844aab68d68adec8309f61f344731b762805c24a7b9426899bd35bea14070198"
    )
    assert str(BOTH.payload_digest()) == (
        "clicooper/v1/payload:56bb5cbdc6f564df4ff948329335216e432178e511dde91105226dd862576ba1"
    )


def test_digests_of_envelope_and_payload() -> None:
    assert BOTH.payload_digest() == ONE.payload_digest()
    assert BOTH.digest() != ONE.digest()
    assert BOTH.payload_digest().tag != BOTH.digest().tag


@settings(deadline=None)
@given(st.binary(max_size=200), st.lists(st.sampled_from([1, 2, 3]), min_size=1, unique=True))
def test_round_trip(payload: bytes, signers: list[int]) -> None:
    identities = [(OWNER, TRAINER, STRANGER)[number - 1] for number in signers]
    envelope = sign_envelope(payload, identities[0])
    for identity in identities[1:]:
        envelope = countersign_envelope(envelope, identity)
    again = parse_envelope(envelope.to_bytes())
    assert again == envelope
    assert again.digest() == envelope.digest()
    require_envelope_signatures(again, [identity.public for identity in reversed(identities)])


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_another_implementation_reads_and_verifies_them(payload: bytes) -> None:
    envelope = countersign_envelope(sign_envelope(payload, OWNER), TRAINER)
    other = other_reader(envelope.to_bytes())
    assert other.payload == payload
    assert other.payload_type == PAYLOAD_TYPE
    assert other.pae() == envelope_pae(payload)
    keys = [other_key(OWNER.public), other_key(TRAINER.public)]
    assert set(other.verify(keys, threshold=2)) == {OWNER.keyid, TRAINER.keyid}


def test_exactly_the_signers_asked_for() -> None:
    owner, trainer, stranger = OWNER.public, TRAINER.public, STRANGER.public
    require_envelope_signatures(ONE, [owner])
    require_envelope_signatures(BOTH, [owner, trainer])
    require_envelope_signatures(BOTH, [trainer, owner])
    for envelope, keys in (
        (ONE, [trainer]),
        (ONE, [owner, trainer]),
        (BOTH, [owner]),
        (BOTH, [owner, stranger]),
        (BOTH, [owner, trainer, stranger]),
        (ONE, []),
        (ONE, [owner, owner]),
        (Envelope(PAYLOAD, ()), []),
        (Envelope(PAYLOAD, ()), [owner]),
        (Envelope(PAYLOAD, ONE.signatures * 2), [owner]),
    ):
        with pytest.raises(EvidenceError, match=r"^entry 4: "):
            require_envelope_signatures(envelope, keys, where="entry 4")


def test_signatures_are_over_this_payload() -> None:
    for payload in (PAYLOAD + b" ", PAYLOAD[:-1], b"", PAYLOAD.replace(b"3", b"4")):
        with pytest.raises(EvidenceError, match=r"entry 4: the signature .*"):
            require_envelope_signatures(
                Envelope(payload, ONE.signatures), [OWNER.public], where="entry 4"
            )


def test_a_signature_under_another_key_id() -> None:
    by_stranger = STRANGER.sign(envelope_pae(PAYLOAD))
    envelope = Envelope(PAYLOAD, (Signature(OWNER.keyid, by_stranger),))
    with pytest.raises(EvidenceError, match="signature"):
        require_envelope_signatures(envelope, [OWNER.public])
    swapped = tuple(
        Signature(keyid.keyid, sig.sig)
        for keyid, sig in zip(BOTH.signatures, BOTH.signatures[::-1], strict=True)
    )
    with pytest.raises(EvidenceError, match="signature"):
        require_envelope_signatures(Envelope(PAYLOAD, swapped), [OWNER.public, TRAINER.public])


def test_a_raw_signature_of_the_payload_is_not_enough() -> None:
    envelope = Envelope(PAYLOAD, (Signature(OWNER.keyid, OWNER.sign(PAYLOAD)),))
    with pytest.raises(EvidenceError, match="signature"):
        require_envelope_signatures(envelope, [OWNER.public])


@pytest.mark.parametrize("flip", [0x01, 0x20, 0x80])
def test_no_byte_of_the_file_can_change(flip: int) -> None:
    content = BOTH.to_bytes()
    for place in range(len(content)):
        other = bytearray(content)
        other[place] ^= flip
        with pytest.raises(EvidenceError):
            require_envelope_signatures(
                parse_envelope(bytes(other)), [OWNER.public, TRAINER.public]
            )


def test_no_part_of_the_file_can_be_missing() -> None:
    content = BOTH.to_bytes()
    for size in range(len(content)):
        with pytest.raises(EvidenceError):
            parse_envelope(content[:size])


def _set(name: str, value: Json) -> Change:
    return lambda fields: fields.__setitem__(name, value)


def _sign(change: Callable[[dict[str, Json]], object]) -> Change:
    def apply(fields: dict[str, Json]) -> None:
        signatures = fields["signatures"]
        assert isinstance(signatures, list)
        assert isinstance(signatures[0], dict)
        change(signatures[0])

    return apply


def _many(count: int) -> list[Json]:
    sig = base64.b64encode(bytes(64)).decode()
    return [{"keyid": f"{number:064x}", "sig": sig} for number in range(count)]


def _twice(fields: dict[str, Json]) -> None:
    signatures = fields["signatures"]
    assert isinstance(signatures, list)
    signatures.append(signatures[0])


PAYLOAD_64 = base64.b64encode(PAYLOAD).decode()
SIG_64 = base64.b64encode(ONE.signatures[0].sig).decode()


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(_set("payloadType", "application/json"), id="type"),
        pytest.param(_set("payloadType", 1), id="type is a number"),
        pytest.param(_set("extra", "x"), id="unknown field"),
        pytest.param(lambda fields: fields.pop("payloadType"), id="no type"),
        pytest.param(lambda fields: fields.pop("signatures"), id="no list of signatures"),
        pytest.param(_set("signatures", []), id="no signature"),
        pytest.param(_set("signatures", {}), id="signatures are an object"),
        pytest.param(_set("signatures", ["x"]), id="signature is a string"),
        pytest.param(_set("signatures", _many(MAX_SIGNATURES + 1)), id="too many signatures"),
        pytest.param(_twice, id="key id twice"),
        pytest.param(_sign(lambda one: one.__setitem__("keyid", "A" * 64)), id="upper-case id"),
        pytest.param(_sign(lambda one: one.__setitem__("keyid", "a" * 63)), id="short id"),
        pytest.param(_sign(lambda one: one.__setitem__("keyid", "a" * 64 + "\n")), id="newline"),
        pytest.param(_sign(lambda one: one.__setitem__("keyid", 1)), id="id is a number"),
        pytest.param(_sign(lambda one: one.pop("keyid")), id="no id"),
        pytest.param(_sign(lambda one: one.__setitem__("cert", "x")), id="field in signature"),
        pytest.param(_sign(lambda one: one.__setitem__("sig", "")), id="empty signature"),
        pytest.param(_sign(lambda one: one.__setitem__("sig", SIG_64[:84])), id="63 bytes"),
        pytest.param(_set("payload", PAYLOAD_64.rstrip("=")), id="no padding"),
        pytest.param(_set("payload", PAYLOAD_64 + "="), id="too much padding"),
        pytest.param(_set("payload", PAYLOAD_64[:8] + "\n" + PAYLOAD_64[8:]), id="line break"),
        pytest.param(_set("payload", PAYLOAD_64[:8] + "!" + PAYLOAD_64[8:]), id="stray character"),
        pytest.param(_set("payload", "-_8="), id="URL alphabet"),
        pytest.param(_set("payload", "e30a"[:2] + "=="), id="unused bits"),
        pytest.param(_set("payload", "\u00e9" * 4), id="not ASCII"),
        pytest.param(_set("payload", 3), id="payload is a number"),
        pytest.param(
            _set("payload", base64.b64encode(bytes(MAX_BYTES + 1)).decode()), id="payload too long"
        ),
    ],
)
def test_refused(change: Change) -> None:
    with pytest.raises(EvidenceError, match=r"^entry 4: "):
        parse_envelope(changed(change), where="entry 4")


@pytest.mark.parametrize("value", [b"[]", b'"x"', b"1", b"{}", b""])
def test_other_documents_are_refused(value: bytes) -> None:
    with pytest.raises(EvidenceError):
        parse_envelope(value)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda text: json.dumps(json.loads(text)), id="spaces"),
        pytest.param(lambda text: text.replace('{"payload"', '{"extra":"x","payload"'), id="field"),
        pytest.param(lambda text: text.replace("application", "\\u0061pplication"), id="escape"),
        pytest.param(
            lambda text: text.replace(SIG_64, SIG_64.replace("+", "-").replace("/", "_")),
            id="URL alphabet",
        ),
        pytest.param(lambda text: text.replace("fQ==", "fR=="), id="unused bits"),
    ],
)
def test_the_other_implementation_gives_one_statement_many_digests(
    change: Callable[[str], str],
) -> None:
    # Why ours is stricter: all of these verify there, and each is another file.
    content = change(BOTH.to_bytes().decode()).encode()
    other = other_reader(content)
    assert other.payload == PAYLOAD
    assert len(other.verify([other_key(OWNER.public)], threshold=1)) == 1
    with pytest.raises(EvidenceError):
        parse_envelope(content)


def test_the_longest_payload_and_most_signatures_are_read() -> None:
    envelope = sign_envelope(bytes(MAX_BYTES), OWNER)
    for number in range(10, 9 + MAX_SIGNATURES):
        key = Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32)
        envelope = countersign_envelope(envelope, Identity(key))
    assert len(envelope.signatures) == MAX_SIGNATURES
    assert parse_envelope(envelope.to_bytes()) == envelope
    with pytest.raises(ValueError, match="at most 16"):
        countersign_envelope(envelope, STRANGER)
    with pytest.raises(ValueError, match=f"at most {MAX_BYTES}"):
        sign_envelope(bytes(MAX_BYTES + 1), OWNER)


def test_nobody_signs_twice() -> None:
    with pytest.raises(ValueError, match="has signed"):
        countersign_envelope(BOTH, OWNER)
