"""Ledger updates: what of a ledger a restart keeps, the form on the wire, what copies refuse."""

from __future__ import annotations

from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from clicooper_hpc.errors import EvidenceError
from clicooper_hpc.provenance.envelope import parse_envelope, sign_envelope
from clicooper_hpc.provenance.identity import Identity
from clicooper_hpc.provenance.ledger_order import LedgerOrder
from clicooper_hpc.provenance.ledger_replica import LedgerReplica
from clicooper_hpc.provenance.ledger_update import LedgerUpdate

#: Run statement, 2 enrolments; per stage 2 tickets, 2 hand-offs, 2 proofs; delivery.
ORDER = LedgerOrder(segments=2, stages=3)
OWNER, STRANGER = (
    Identity(Ed25519PrivateKey.from_private_bytes(bytes([value]) * 32)) for value in (1, 2)
)


@pytest.mark.parametrize(
    ("entries", "kept", "proved"),
    [
        (0, 0, 0),
        (2, 0, 0),  # an enrolment is missing: nothing was sent to anybody
        (3, 3, 0),
        (4, 3, 0),  # one ticket of two
        (5, 5, 0),
        (8, 5, 0),  # a proof is missing
        (9, 9, 1),
        (11, 11, 1),
        (21, 21, 3),
        (22, 22, 3),  # closed
    ],
)
def test_a_restart_keeps_no_part_of_a_block(entries: int, kept: int, proved: int) -> None:
    assert ORDER.recoverable_size(entries) == kept
    assert ORDER.proved_stages(kept) == proved


@given(st.integers(1, 5), st.integers(1, 6), st.integers(0, 200))
def test_what_was_sent_is_always_kept(segments: int, stages: int, entries: int) -> None:
    order = LedgerOrder(segments, stages)
    entries = min(entries, order.size)
    kept = order.recoverable_size(entries)
    signed = [size for size in order.checkpoint_sizes() if size <= entries]
    assert max(signed, default=0) <= kept <= entries
    # At most the tickets lie behind the last checkpoint that was signed.
    assert kept - max(signed, default=0) in {0, segments}


def test_an_update_survives_the_wire_and_nothing_else_does() -> None:
    update = LedgerUpdate((b'{"a":1}', b"{}"), ("note one", "note two \u2014"))
    assert LedgerUpdate.from_bytes(update.to_bytes(), limit=1000) == update
    for damaged in (
        b"[]",
        b'{"entries":[]}',
        b'{"checkpoints":[],"entries":[1]}',
        b'{"checkpoints":[1],"entries":[]}',
        '{"checkpoints":[],"entries":["\u2014"]}'.encode(),
    ):
        with pytest.raises(EvidenceError):
            LedgerUpdate.from_bytes(damaged, limit=1000)


def updates() -> tuple[LedgerUpdate, LedgerUpdate]:
    """Return an owner's first two updates: the start, then stage 0 with the tickets of stage 1."""
    ledger = LedgerReplica("ledger", ORDER)
    made = []
    for first, checkpoint, last in ((0, 3, 5), (5, 9, 11)):
        for number in range(first, last):
            ledger.append(sign_envelope(b"entry %d" % number, OWNER))
            if ledger.size == checkpoint:
                note = ledger.sign_checkpoint(OWNER).to_text()
        made.append(LedgerUpdate(tuple(ledger.entries[first:]), (note,)))
    return made[0], made[1]


def test_a_copy_grows_by_updates_as_by_the_whole_ledger() -> None:
    one, two = updates()
    step_by_step, at_once = LedgerReplica("ledger", ORDER), LedgerReplica("ledger", ORDER)
    signed = [
        *step_by_step.apply_update(one, OWNER.public),
        *step_by_step.apply_update(two, OWNER.public),
    ]
    whole = LedgerUpdate(one.entries + two.entries, one.checkpoints + two.checkpoints)
    assert at_once.apply_update(whole, OWNER.public) == signed
    assert [one.checkpoint.size for one in signed] == [3, 9]
    assert (step_by_step.entries, step_by_step.root) == (at_once.entries, at_once.root)
    assert at_once.tree_head(9).root == signed[1].checkpoint.root.hex()


def test_a_copy_refuses_what_its_checkpoints_do_not_cover() -> None:
    one, two = updates()
    swapped = (one.entries[1], one.entries[0], *one.entries[2:])
    copy = LedgerReplica("ledger", ORDER)
    for entry in one.entries[:3]:
        copy.append(parse_envelope(entry))
    stranger = copy.sign_checkpoint(STRANGER).to_text()
    for bad in (
        replace(one, checkpoints=()),
        replace(one, checkpoints=one.checkpoints * 2),
        replace(one, checkpoints=two.checkpoints),
        replace(one, checkpoints=(stranger,)),
        replace(one, entries=swapped),
        replace(one, entries=one.entries[1:]),
        replace(one, entries=(b"no envelope", *one.entries[1:])),
        replace(one, entries=one.entries[:3]),  # without the tickets of the next stage
        replace(one, entries=one.entries[:4]),
        replace(one, entries=(*one.entries, one.entries[-1])),
        LedgerUpdate((), ()),
    ):
        with pytest.raises(EvidenceError):
            LedgerReplica("ledger", ORDER).apply_update(bad, OWNER.public)
    with pytest.raises(EvidenceError, match="speaks of another ledger"):
        LedgerReplica("other-ledger", ORDER).apply_update(one, OWNER.public)


@pytest.mark.parametrize(("segments", "stages"), [(1, 1), (1, 3), (2, 2), (3, 4)])
def test_a_copy_is_complete_after_every_update_and_nowhere_else(segments: int, stages: int) -> None:
    order = LedgerOrder(segments, stages)
    ends = [order.size_before_stage(stage) + segments for stage in range(stages)]
    ends += [order.size_before_stage(stages), order.size]
    assert [size for size in range(order.size + 9) if order.is_update_end(size)] == ends
