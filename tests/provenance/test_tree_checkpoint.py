"""Signed notes: the published example, exact spelling, exactly the expected signers."""

from __future__ import annotations

import base64
import contextlib

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from clicooper_hpc.errors import EvidenceError
from clicooper_hpc.provenance.identity import Identity, PublicIdentity
from clicooper_hpc.provenance.tree_checkpoint import (
    SignedCheckpoint,
    TreeCheckpoint,
    checkpoint_key_hash,
)

OWNER, TRAINER, STRANGER = (
    Identity(Ed25519PrivateKey.from_private_bytes(bytes([value]) * 32)) for value in (1, 2, 3)
)
ROOT = bytes(range(32))
CHECKPOINT = TreeCheckpoint("clicooper/0123456789abcdef", 42, ROOT)
SIGNED = SignedCheckpoint.sign(CHECKPOINT, OWNER, "owner").cosign(TRAINER, "trainer-1")
KEYS = {"owner": OWNER.public, "trainer-1": TRAINER.public}
TEXT = SIGNED.to_text()

# The example of golang.org/x/mod/sumdb/note, where the format comes from.
GO_NAME, GO_HASH, GO_KEY = [
    "PeterNeumann",
    "c74f20a3",
    "ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
]
GO_TEXT = (
    "If you think cryptography is the answer to your problem,\n"
    "then you don't know what your problem is.\n"
)
GO_SIGNATURE = (
    "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM="
)


def test_key_hash_and_signature_of_the_published_example() -> None:
    kind, raw = base64.b64decode(GO_KEY)[:1], base64.b64decode(GO_KEY)[1:]
    key = PublicIdentity.from_raw(raw)
    assert kind == b"\x01"
    assert checkpoint_key_hash(GO_NAME, key).hex() == GO_HASH
    value = base64.b64decode(GO_SIGNATURE)
    assert value[:4].hex() == GO_HASH
    key.verify(value[4:], GO_TEXT.encode())


def test_golden_text() -> None:
    assert CHECKPOINT.text() == (
        "clicooper/0123456789abcdef\n42\nAAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n"
    )
    owner = (
        "a62+QgDALkOivzE1Vj/reRHIOy+1zYN99wR6dhmJlR/j"
        "n7/kmU4C/lR+CktmvBH36ZrGmVV96CnhWbe6qp6AcijxWAw="
    )
    trainer = (
        "D0Sx+rGuxiInUFi3rWBPQ2P6iQfCtozHf4GYKtZfFBm9"
        "tUH33r5wUSNvEURmAhDMWQGFBkyIIQKGZRGC2SLB1XWwNwU="
    )
    assert f"{CHECKPOINT.text()}\n\u2014 owner {owner}\n\u2014 trainer-1 {trainer}\n" == TEXT


@settings(deadline=None)
@given(
    st.from_regex(r"[!-~]{1,200}", fullmatch=True),
    st.integers(0, 2**53 - 1),
    st.binary(min_size=32, max_size=32),
)
def test_round_trip(origin: str, size: int, root: bytes) -> None:
    signed = SignedCheckpoint.sign(TreeCheckpoint(origin, size, root), OWNER, "owner")
    signed = signed.cosign(TRAINER, "trainer-1")
    again = SignedCheckpoint.parse(signed.to_text())
    assert again == signed
    assert again.checkpoint == TreeCheckpoint(origin, size, root)
    again.verify(KEYS)


def test_a_cosignature_leaves_the_note_as_it_was() -> None:
    alone = SignedCheckpoint.sign(CHECKPOINT, OWNER, "owner")
    assert TEXT.startswith(alone.to_text())
    alone.verify({"owner": OWNER.public})
    assert alone.cosign(TRAINER, "trainer-1") == SIGNED


def test_exactly_the_names_asked_for() -> None:
    alone = SignedCheckpoint.sign(CHECKPOINT, OWNER, "owner")
    twice = SignedCheckpoint(CHECKPOINT, alone.signatures * 2)
    wrong: list[tuple[SignedCheckpoint, dict[str, PublicIdentity]]] = [
        (SIGNED, {"owner": OWNER.public}),
        (alone, KEYS),
        (SIGNED, {**KEYS, "trainer-2": STRANGER.public}),
        (SIGNED, {"owner": OWNER.public, "trainer-2": TRAINER.public}),
        (SIGNED, {"owner": OWNER.public, "trainer-1": STRANGER.public}),
        (SIGNED, {"owner": TRAINER.public, "trainer-1": OWNER.public}),
        (SignedCheckpoint(CHECKPOINT, ()), {}),
        (SignedCheckpoint(CHECKPOINT, ()), {"owner": OWNER.public}),
        (twice, {"owner": OWNER.public}),
        (alone, {}),
    ]
    for signed, keys in wrong:
        with pytest.raises(EvidenceError, match=r"^ledger: the checkpoint "):
            signed.verify(keys, where="ledger")


def test_signatures_are_over_this_checkpoint() -> None:
    for other in (
        TreeCheckpoint(CHECKPOINT.origin, 43, ROOT),
        TreeCheckpoint(CHECKPOINT.origin, 42, ROOT[::-1]),
        TreeCheckpoint("clicooper/fedcba9876543210", 42, ROOT),
    ):
        with pytest.raises(EvidenceError, match="invalid signature of owner"):
            SignedCheckpoint(other, SIGNED.signatures).verify(KEYS)


def test_a_signature_under_another_name() -> None:
    (_, first), (_, second) = SIGNED.signatures
    swapped = SignedCheckpoint(CHECKPOINT, (("owner", second), ("trainer-1", first)))
    with pytest.raises(EvidenceError, match="another key than that of owner"):
        swapped.verify(KEYS)
    # The hash is only a hint: with the right one, the signature itself is refused.
    forged = (
        "owner",
        checkpoint_key_hash("owner", OWNER.public) + STRANGER.sign(CHECKPOINT.text().encode()),
    )
    with pytest.raises(EvidenceError, match="invalid signature of owner"):
        SignedCheckpoint(CHECKPOINT, (forged,)).verify({"owner": OWNER.public})


@pytest.mark.parametrize("flip", [0x01, 0x20])
def test_no_character_can_change(flip: int) -> None:
    for place, letter in enumerate(TEXT):
        other = TEXT[:place] + chr(ord(letter) ^ flip) + TEXT[place + 1 :]
        with pytest.raises(EvidenceError):
            SignedCheckpoint.parse(other).verify(KEYS)


def test_no_part_can_be_missing() -> None:
    lines = TEXT.splitlines(keepends=True)
    for size in range(len(TEXT)):
        if size == len(TEXT) - len(lines[-1]):
            continue  # a note without its last cosignature is a note
        with pytest.raises(EvidenceError):
            SignedCheckpoint.parse(TEXT[:size])
    for line in range(len(lines) - 2):
        with pytest.raises(EvidenceError):
            SignedCheckpoint.parse("".join(lines[:line] + lines[line + 1 :])).verify(KEYS)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param("\n42\n", "\n042\n", id="leading zero"),
        pytest.param("\n42\n", "\n+42\n", id="plus"),
        pytest.param("\n42\n", "\n-42\n", id="minus"),
        pytest.param("\n42\n", "\n4_2\n", id="underscore"),
        pytest.param("\n42\n", "\n4\u0662\n", id="other digits"),
        pytest.param("\n42\n", "\n 42\n", id="space"),
        pytest.param("\n42\n", "\n9007199254740992\n", id="2**53"),
        pytest.param("\n42\n", "\n" + "9" * 5000 + "\n", id="long number"),
        pytest.param("Hh8=", "Hh9=", id="unused bits"),
        pytest.param("Hh8=\n", "Hh8\n", id="no padding"),
        pytest.param("Hh8=\n", "Hh8=\r\n", id="carriage return"),
        pytest.param("Hh8=\n", "Hh8=\nextension\n", id="extension line"),
        pytest.param("Hh8=\n\n", "Hh8=\nextension\n", id="no empty line"),
        pytest.param("\u2014 owner", "owner", id="no dash"),
        pytest.param("AAEC", "AAECAAEC", id="long root"),
        pytest.param("AAECAwQF", "", id="short root"),
        pytest.param("clicooper/", "clicooper ", id="space in origin"),
        pytest.param("clicooper/0123456789abcdef", "", id="no origin"),
        pytest.param("clicooper/0123456789abcdef", "\u00e9", id="origin not ASCII"),
        pytest.param("clicooper/", "c" * 200, id="long origin"),
        pytest.param("\u2014 owner", "- owner", id="hyphen"),
        pytest.param("\u2014 owner", "\u2014  owner", id="two spaces"),
        pytest.param("\u2014 owner", "\u2014 own+er", id="plus in name"),
        pytest.param("\u2014 owner", "\u2014 trainer-1", id="name twice"),
        pytest.param("\u2014 trainer-1", "\n\u2014 trainer-1", id="empty line"),
        pytest.param("\u2014 owner ", "\u2014 owner AAAA", id="long signature"),
        pytest.param("\u2014 owner ", "\u2014 owner\t", id="tab"),
    ],
)
def test_refused(old: str, new: str) -> None:
    assert old in TEXT
    with pytest.raises(EvidenceError, match=r"^ledger: the checkpoint "):
        SignedCheckpoint.parse(TEXT.replace(old, new), where="ledger")


@settings(deadline=None)
@given(st.text(max_size=200))
def test_any_text_is_read_or_refused(text: str) -> None:
    for content in (text, TEXT + text, text + TEXT):
        with contextlib.suppress(EvidenceError):
            assert SignedCheckpoint.parse(content).to_text() == content


def test_very_long_notes_are_refused() -> None:
    with pytest.raises(EvidenceError, match="characters"):
        SignedCheckpoint.parse(TEXT + "x" * (1 << 18))


@pytest.mark.parametrize(
    ("origin", "size", "root"),
    [
        ("", 1, ROOT),
        ("a b", 1, ROOT),
        ("a\n", 1, ROOT),
        ("\u00e9", 1, ROOT),
        ("a", -1, ROOT),
        ("a", 2**53, ROOT),
        ("a", 1, ROOT[:31]),
    ],
)
def test_a_program_that_makes_another_checkpoint_fails(origin: str, size: int, root: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        TreeCheckpoint(origin, size, root)


@pytest.mark.parametrize("name", ["", "a b", "a+b", "a\n", "\u00e9", "owner"])
def test_names_that_cannot_sign(name: str) -> None:
    with pytest.raises(ValueError, match=r"name|has signed"):
        SIGNED.cosign(STRANGER, name)
