"""Lies in bytes, run statement, order, checkpoints and the end of the ledger."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from forge import h, resealed
from lies import (
    DELIVERY,
    ENROLMENT,
    IDENTITIES,
    PROOF,
    RUN,
    collector,
    flip,
    forge,
    forged,
    honest,
    index,
    signed_again,
    signed_by,
    with_entry,
)

from clicooper_hpc.provenance.canonical_json import encode_canonical_json
from clicooper_hpc.provenance.envelope import parse_envelope
from clicooper_hpc.provenance.identity import Identity
from clicooper_hpc.provenance.ledger_order import EntryId
from clicooper_hpc.provenance.tree_checkpoint import OWNER_NAME, SignedCheckpoint, checkpoint_origin
from clicooper_hpc.verification.evidence import Evidence

ROWS, row = collector()


# --- Damage to bytes: canonical forms leave nothing to vary -------------------------------------


@row({1}, "entry 20: the document is not canonical")
def space_in_an_envelope() -> Evidence:
    return with_entry(PROOF, lambda entry: entry.replace(b'","', b'", "', 1))


@row({1}, "canonical")
def keys_in_another_order() -> Evidence:
    def swap(payload: bytes) -> bytes:
        document = json.loads(payload)
        return json.dumps(dict(reversed(document.items())), separators=(",", ":")).encode()

    return with_entry(PROOF, signed_again(swap, 2))


@row({1}, "exactly the fields")
def unsigned_remark_beside_the_payload() -> Evidence:
    def remark(entry: bytes) -> bytes:
        return encode_canonical_json(json.loads(entry) | {"remark": "all is well"})

    return with_entry(PROOF, remark)


@row({1}, "not standard base64")
def base64_with_unused_bits() -> Evidence:
    def loosen(entry: bytes) -> bytes:
        document = json.loads(entry)
        sig = document["signatures"][0]["sig"]
        assert sig.endswith("==")
        alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
        sig = sig[:-3] + alphabet[alphabet.index(sig[-3]) ^ 1] + "=="
        document["signatures"][0]["sig"] = sig
        return encode_canonical_json(document)

    return with_entry(PROOF, loosen)


@row({1}, "not an integer")
def float_in_a_payload() -> Evidence:
    return with_entry(
        PROOF, signed_again(lambda payload: payload.replace(b'"steps":10', b'"steps":10.0'), 2)
    )


@row({1}, "a key twice")
def key_twice_in_a_payload() -> Evidence:
    return with_entry(
        PROOF,
        signed_again(lambda payload: payload.replace(b'"steps":10', b'"steps":10,"steps":20'), 2),
    )


@row({1}, "canonical JSON")
def not_utf8() -> Evidence:
    return with_entry(ENROLMENT, signed_again(lambda payload: payload.replace(b"cpu", b"c\xff"), 2))


@row({1}, "entry 22")
def last_entry_cut_short() -> Evidence:
    return with_entry(DELIVERY, lambda entry: entry[:-40])


@row({1}, "no kind known")
def statement_of_another_kind() -> Evidence:
    return with_entry(
        PROOF, signed_again(lambda payload: payload.replace(b":stage:v2", b":stage:v3"), 2)
    )


@row({1}, "another subject")
def subject_that_is_not_the_predicates() -> Evidence:
    def lie(payload: bytes) -> bytes:
        document = json.loads(payload)
        document["subject"][0]["digest"]["sha256"] = h("a better segment")
        return encode_canonical_json(document)

    return with_entry(PROOF, signed_again(lie, 2))


@row({1}, "no entries")
def empty_ledger() -> Evidence:
    return replace(honest(), entries=())


@row({1}, "used twice")
def one_key_for_two_trainers() -> Evidence:
    key = IDENTITIES[1][0].public.raw.hex()
    third = IDENTITIES[1][2].public.raw.hex()
    return forged(RUN, trainers=(key, key, third))


# --- Run statement --------------------------------------------------------------------------------


@row({2}, "not the run statement")
def ledger_without_its_head() -> Evidence:
    evidence = honest()
    return replace(evidence, entries=evidence.entries[1:])


@row({2}, "signed by")
def run_statement_of_somebody_else() -> Evidence:
    return signed_by(RUN, 1)


@row({2}, "signature")
def run_statement_with_a_bad_signature() -> Evidence:
    def spoil(entry: bytes) -> bytes:
        envelope = parse_envelope(entry)
        one = envelope.signatures[0]
        return replace(envelope, signatures=(replace(one, sig=flip(one.sig, 40)),)).to_bytes()

    return with_entry(RUN, spoil, sealed=True)


@row({2}, "small order")
def owner_key_under_which_everything_is_signed() -> Evidence:
    return forged(RUN, owner="01" + "00" * 31)


@row({2}, "job")
def job_edited_after_the_run() -> Evidence:
    return replace(honest(), job_text='{"training":{"epochs":3}}')


@row({2}, "job's digest")
def job_of_another_run() -> Evidence:
    return replace(honest(), job_digest=h("other job"))


@row({2}, "privacy card")
def privacy_card_exchanged() -> Evidence:
    return replace(honest(), card_digest=h("a card with a smaller epsilon"))


@row({2}, "run id")
def ledger_of_another_run() -> Evidence:
    return replace(honest(), run_id="f" * 32)


# --- Order: nothing left out, inserted, exchanged -------------------------------------------------


def rearranged(change: Callable[[list[bytes]], object]) -> Evidence:
    """Return a ledger whose entries were moved and which was sealed again."""
    one = forge()
    evidence = one.build()
    entries = list(evidence.entries)
    change(entries)
    return resealed(one, evidence, entries)


@row({3}, "must be the proof of segment 2, stage 1")
def proof_left_out() -> Evidence:
    return rearranged(lambda entries: entries.pop(index(PROOF)))


@row({3}, "must be")
def proof_twice() -> Evidence:
    return rearranged(lambda entries: entries.insert(index(PROOF), entries[index(PROOF)]))


@row({3}, "it is the proof of segment 3, stage 1")
def two_proofs_exchanged() -> Evidence:
    def swap(entries: list[bytes]) -> None:
        one = index(PROOF)
        entries[one], entries[one + 1] = entries[one + 1], entries[one]

    return rearranged(swap)


@row({3}, "it is the proof of segment 2, stage 0")
def proof_of_the_stage_before_again() -> Evidence:
    def replay(entries: list[bytes]) -> None:
        entries[index(PROOF)] = entries[index(EntryId("stage", 0, 2))]

    return rearranged(replay)


@row({3}, "behind the delivery")
def entry_behind_the_delivery() -> Evidence:
    return rearranged(lambda entries: entries.append(entries[-1]))


@row({3}, "run id")
def proof_from_another_run_of_the_same_people() -> Evidence:
    other = honest(run_id="e" * 32).entries[index(PROOF)]
    return rearranged(lambda entries: entries.__setitem__(index(PROOF), other))


@row({3}, "must be")
def stages_exchanged() -> Evidence:
    def swap(entries: list[bytes]) -> None:
        first, second, end = forge().order.checkpoint_sizes()[:3]
        entries[first:end] = entries[second:end] + entries[first:second]

    return rearranged(swap)


# --- Checkpoints ----------------------------------------------------------------------------------


def with_note(number: int, change: Callable[[str], str]) -> Evidence:
    evidence = honest()
    notes = list(evidence.checkpoints)
    notes[number] = change(notes[number])
    return replace(evidence, checkpoints=tuple(notes))


@row({4, 7, 9, 10, 11, 12, 13, 16}, "signature")
def bit_flipped_in_the_signature_of_an_early_proof() -> Evidence:
    """Nearly everything after it refers to it, in one way or another."""

    def spoil(entry: bytes) -> bytes:
        envelope = parse_envelope(entry)
        one = envelope.signatures[0]
        return replace(envelope, signatures=(replace(one, sig=flip(one.sig, 3)),)).to_bytes()

    return with_entry(EntryId("stage", 0, 2), spoil)


@row({4}, "checkpoint 3: it is missing")
def checkpoint_left_out() -> Evidence:
    notes = honest().checkpoints
    return replace(honest(), checkpoints=(*notes[:1], *notes[2:]))


@row({4, 5}, "checkpoint 3: it is missing at size 23")
def last_checkpoint_left_out() -> Evidence:
    evidence = honest()
    return replace(evidence, checkpoints=evidence.checkpoints[:-1])


@row({4, 5}, "missing")
def no_checkpoints() -> Evidence:
    return replace(honest(), checkpoints=())


@row({4, 5}, "it speaks of 23 entries; there are 22")
def end_of_the_ledger_cut_off() -> Evidence:
    evidence = honest()
    return replace(evidence, entries=evidence.entries[:-1], trainer_heads={})


@row({4}, "invalid signature")
def checkpoint_with_a_bad_signature() -> Evidence:
    def spoil(note: str) -> str:
        head, _, signature = note.rstrip("\n").rpartition(" ")
        raw = flip(base64.b64decode(signature), 30)
        return f"{head} {base64.b64encode(raw).decode()}\n"

    return with_note(1, spoil)


@row({4}, "another key")
def checkpoint_of_a_stranger_in_the_owners_name() -> Evidence:
    def sign(note: str) -> str:
        checkpoint = SignedCheckpoint.parse(note).checkpoint
        return SignedCheckpoint.sign(checkpoint, Identity.generate(), OWNER_NAME).to_text()

    return with_note(1, sign)


def other_checkpoint(**values: Any) -> Evidence:
    def sign(note: str) -> str:
        checkpoint = replace(SignedCheckpoint.parse(note).checkpoint, **values)
        return SignedCheckpoint.sign(checkpoint, IDENTITIES[0], OWNER_NAME).to_text()

    return with_note(1, sign)


@row({4}, "the root is")
def checkpoint_over_another_ledger() -> Evidence:
    return other_checkpoint(root=b"r" * 32)


@row({4}, "the size is 12")
def checkpoint_at_another_size() -> Evidence:
    return other_checkpoint(size=12)


@row({4}, "the origin")
def checkpoint_of_another_run() -> Evidence:
    return other_checkpoint(origin=checkpoint_origin("e" * 32))


@row({4}, "must be 4")
def one_checkpoint_too_many() -> Evidence:
    evidence = honest()
    extra = (*evidence.checkpoints, evidence.checkpoints[-1])
    return replace(evidence, checkpoints=extra)


@row({4}, "signed by owner, trainer-1")
def cosigned_before_the_end() -> Evidence:
    return with_note(
        1,
        lambda note: SignedCheckpoint.parse(note).cosign(IDENTITIES[1][0], "trainer-1").to_text(),
    )


# --- Completeness ---------------------------------------------------------------------------------


@row({5}, "unfinished")
def last_stage_dropped_with_its_checkpoints() -> Evidence:
    evidence = honest()
    size = forge().order.size_before_stage(1)
    return replace(
        evidence,
        entries=evidence.entries[:size],
        checkpoints=evidence.checkpoints[:2],
        segments=None,
        checkpoint_roots={},
        tables={},
        trainer_heads={i: heads[:2] for i, heads in evidence.trainer_heads.items()},
    )


@row({5}, "not by")
def end_without_cosignatures() -> Evidence:
    def strip(note: str) -> str:
        signed = SignedCheckpoint.parse(note)
        return replace(signed, signatures=signed.signatures[:2]).to_text()

    return with_note(-1, strip)


@row({5}, "another key")
def end_cosigned_by_a_stranger() -> Evidence:
    def sign(note: str) -> str:
        signed = SignedCheckpoint.parse(note)
        most = replace(signed, signatures=signed.signatures[:-1])
        return most.cosign(Identity.generate(), "trainer-3").to_text()

    return with_note(-1, sign)
