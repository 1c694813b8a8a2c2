"""Lies in the delivery, in files, and those that only other copies or keys can show."""

from __future__ import annotations

from dataclasses import replace

from forge import Forge, changed, h
from lies import (
    DELIVERY,
    FORGED,
    IDENTITIES,
    PROOF,
    collector,
    forge,
    forged,
    honest,
    signed_by,
)

from clicooper_hpc.provenance.equivocation import Equivocation
from clicooper_hpc.provenance.identity import Identity
from clicooper_hpc.provenance.ledger_order import EntryId
from clicooper_hpc.provenance.statement_fields import DeliveredSegment, TreeHead
from clicooper_hpc.provenance.tree_checkpoint import OWNER_NAME, SignedCheckpoint
from clicooper_hpc.verification.evidence import Evidence, Unreadable

ROWS, row = collector()


# --- Delivery and files ---------------------------------------------------------------------------


@row({13}, "weights of segment 2")
def delivery_of_other_weights_than_proved() -> Evidence:
    parts = [h("weights", 1, 1), h("other weights"), h("weights", 3, 1)]
    segments = tuple(DeliveredSegment(segment=i, weights=w) for i, w in enumerate(parts, 1))
    return replace(forged(DELIVERY, segments=segments), segments=tuple(parts))


@row({13}, "number of segments")
def delivery_without_the_last_segment() -> Evidence:
    segments = tuple(DeliveredSegment(segment=i, weights=h("weights", i, 1)) for i in range(1, 3))
    evidence = forged(DELIVERY, segments=segments)
    assert evidence.segments is not None
    return replace(evidence, segments=evidence.segments[:2])


@row({13}, "signed by")
def delivery_signed_by_a_trainer() -> Evidence:
    return signed_by(DELIVERY, 3)


@row({13}, "root of the ledger")
def delivery_over_another_ledger() -> Evidence:
    size = forge().order.size - 1
    return forged(DELIVERY, ledger=TreeHead(size=size, root=h("other")))


@row({13}, "file of segment 1")
def two_delivered_files_exchanged() -> Evidence:
    evidence = honest()
    assert evidence.segments is not None
    one, two, three = evidence.segments
    return replace(evidence, segments=(two, one, three))


@row({13}, "file is missing")
def delivered_file_lost() -> Evidence:
    evidence = honest()
    assert evidence.segments is not None
    one, _, three = evidence.segments
    return replace(evidence, segments=(one, Unreadable("the file is missing"), three))


@row({13}, "their number")
def one_delivered_file_too_few() -> Evidence:
    evidence = honest()
    assert evidence.segments is not None
    return replace(evidence, segments=evidence.segments[:2])


def with_checkpoint(at: tuple[int, int], found: tuple[str, str] | Unreadable) -> Evidence:
    evidence = honest()
    return replace(evidence, checkpoint_roots={**evidence.checkpoint_roots, at: found})


@row({14}, "its weights")
def weights_in_a_checkpoint_changed() -> Evidence:
    return with_checkpoint((0, 2), (h("changed"), h("adam", 2, 0)))


@row({14}, "its optimizer")
def optimizer_in_a_checkpoint_changed() -> Evidence:
    return with_checkpoint((0, 2), (h("weights", 2, 0), h("changed")))


@row({14}, "truncated")
def checkpoint_file_damaged() -> Evidence:
    return with_checkpoint((0, 2), Unreadable("the file is truncated"))


@row({14}, "the run has no proof of segment 2, stage 7")
def checkpoint_file_of_a_stage_that_never_was() -> Evidence:
    return with_checkpoint((7, 2), (h("a"), h("b")))


@row({15}, "rows of rank 2, stage 1")
def metric_rows_changed() -> Evidence:
    evidence = honest()
    return replace(evidence, tables={**evidence.tables, (2, 1): h("nicer losses")})


@row({15}, "rows of rank 0")
def results_of_the_owner_changed() -> Evidence:
    evidence = honest()
    return replace(evidence, tables={**evidence.tables, (0, 2): h("better accuracy")})


@row({15}, "they are missing")
def metric_rows_lost() -> Evidence:
    evidence = honest()
    tables = dict(evidence.tables)
    del tables[2, 1]
    return replace(evidence, tables=tables)


@row({15}, "the run has no proof of segment 2, stage 2")
def metric_rows_added() -> Evidence:
    evidence = honest()
    return replace(evidence, tables={**evidence.tables, (2, 2): h("one more stage")})


# --- What only comparing copies, or knowing keys, can show ----------------------------------------


def shown_another_ledger() -> Evidence:
    """Return what trainer 2 was shown: another run of the same stage."""
    return honest(alter={EntryId("ticket", 1, 1): changed(nonce=h("the other ledger"))})


@row({16}, "owner: it signed two ledgers of")
def owner_with_two_ledgers() -> Evidence:
    """Everything is consistent, and trainer 2 has the owner's signature under the other one."""
    shown = shown_another_ledger()
    evidence = honest()
    return replace(
        evidence,
        trainer_heads={**evidence.trainer_heads, 2: shown.trainer_heads[2]},
        trainer_notes={**evidence.trainer_notes, 2: shown.trainer_notes[2]},
    )


@row({16}, "trainer 2: its file says that it saw another ledger at size 22; the owner's")
def trainer_that_makes_up_another_ledger_of_the_owners() -> Evidence:
    """Heads are any trainer's to write: without the owner's signature they accuse nobody else."""
    evidence = honest()
    heads = {**evidence.trainer_heads, 2: shown_another_ledger().trainer_heads[2]}
    return replace(evidence, trainer_heads=heads)


@row({16}, "trainer 2: its file says that it saw another ledger at size 22; the owner's")
def trainer_that_forges_the_owners_signature_under_another_ledger() -> Evidence:
    shown = shown_another_ledger()
    evidence = honest()
    forged = []
    for note in shown.trainer_notes[2]:
        unsigned = replace(SignedCheckpoint.parse(note), signatures=())
        # Under the owner's name, by the trainer's own key.
        forged.append(unsigned.cosign(IDENTITIES[1][1], OWNER_NAME).to_text())
    return replace(
        evidence,
        trainer_heads={**evidence.trainer_heads, 2: shown.trainer_heads[2]},
        trainer_notes={**evidence.trainer_notes, 2: forged},
    )


@row({16}, "owner: it signed two ledgers of")
def note_under_another_ledger_beside_the_head_of_this_one() -> Evidence:
    """The trainer's head was put right afterwards; the owner's signature says what it saw."""
    evidence = honest()
    shown = shown_another_ledger().trainer_notes[2]
    return replace(evidence, trainer_notes={**evidence.trainer_notes, 2: shown})


@row({16}, "trainer 2: the note beside the head of 4 entries in its file is not the owner's")
def notes_of_the_owner_in_another_order() -> Evidence:
    evidence = honest()
    notes = evidence.trainer_notes[2][::-1]
    return replace(evidence, trainer_notes={**evidence.trainer_notes, 2: notes})


@row({16}, "trainer 2: the note beside the head of 4 entries in its file is not the owner's")
def heads_without_notes() -> Evidence:
    evidence = honest()
    return replace(evidence, trainer_notes={**evidence.trainer_notes, 2: ()})


def two_notes() -> Equivocation:
    return Equivocation(honest().trainer_notes[2][-1], shown_another_ledger().trainer_notes[2][-1])


@row({16}, "owner: it signed two ledgers of 23 entries, a fork: rank-002.json")
def evidence_a_trainer_kept_of_two_ledgers() -> Evidence:
    return replace(honest(), equivocations={"rank-002.json": two_notes().to_bytes()})


def two_proofs() -> Equivocation:
    """Return proofs of one stage by one trainer: of the run, and of one of other numbers."""
    honest()
    first = FORGED[0].envelopes[PROOF]
    forged(PROOF, weights_out=h("other weights"))
    return Equivocation.of_proofs(first, FORGED[0].envelopes[PROOF])


@row({16}, "trainer 2: it signed two proofs of stage 1 in one start of the run: rank-000.json")
def evidence_the_owner_kept_of_two_proofs() -> Evidence:
    return replace(honest(), equivocations={"rank-000.json": two_proofs().to_bytes()})


@row({16}, "trainer 3: its file says that it saw 40 entries; the ledger has only")
def ledger_rolled_back_and_ended_differently() -> Evidence:
    evidence = honest()
    return replace(evidence, trainer_heads={**evidence.trainer_heads, 3: [(40, h("head"))]})


@row({16}, "its file holds no checkpoint")
def heads_of_one_trainer_deleted() -> Evidence:
    evidence = honest()
    return replace(evidence, trainer_heads={**evidence.trainer_heads, 3: []})


@row({16, 18}, "trainer 3: its file cannot be read: the file is missing")
def file_of_one_trainer_lost() -> Evidence:
    """Anybody can take a file away: that is not charged to the trainer."""
    evidence = honest()
    heads = {rank: found for rank, found in evidence.trainer_heads.items() if rank != 3}
    lost = {**evidence.messages, 3: Unreadable("the file is missing")}
    return replace(evidence, trainer_heads=heads, messages=lost)


@row({16}, "no such trainer")
def heads_of_a_trainer_too_many() -> Evidence:
    evidence = honest()
    return replace(evidence, trainer_heads={**evidence.trainer_heads, 4: [(0, h("head"))]})


@row({17}, "owner")
def whole_run_made_up_with_other_keys() -> Evidence:
    real = honest()
    return replace(
        Forge().build(),
        owner_key=real.owner_key,
        trainer_keys=real.trainer_keys,
    )


@row({17}, "trainer 1")
def trainers_in_other_places_than_the_user_knows() -> Evidence:
    evidence = honest()
    assert evidence.trainer_keys is not None
    return replace(evidence, trainer_keys=evidence.trainer_keys[::-1])


@row({17}, "number of keys")
def fewer_trainers_than_the_user_knows() -> Evidence:
    evidence = honest()
    assert evidence.trainer_keys is not None
    keys = [*evidence.trainer_keys, Identity.generate().public]
    return replace(evidence, trainer_keys=keys)


# --- The index's own words, messages, outlines ----------------------------------------------------


@row({5}, "its status is incomplete, must be complete")
def run_that_does_not_say_it_is_complete() -> Evidence:
    return replace(honest(), status="incomplete")


@row({1}, "rows of table heads")
def job_edited_to_say_that_there_are_no_proofs() -> Evidence:
    return replace(honest(), denied_proofs="4 rows of table heads of rank 2")


@row({1}, "file of the owner: the file is missing")
def file_of_the_owner_lost() -> Evidence:
    return replace(honest(), missing_ledger="the file is missing", entries=(), checkpoints=())


def with_messages(rank: int, at: tuple[int, str], found: tuple[int, str] | None) -> Evidence:
    evidence = honest()
    mine = evidence.messages[rank]
    assert not isinstance(mine, Unreadable)
    changed_rows = {place: one for place, one in mine.items() if place != at}
    if found is not None:
        changed_rows[at] = found
    return replace(evidence, messages={**evidence.messages, rank: changed_rows})


@row({18}, "messages of rank 2, stage 1, forward_in: their root")
def digest_of_one_message_changed() -> Evidence:
    return with_messages(2, (1, "forward_in"), (40, h("other messages")))


@row({18}, "messages of rank 3, stage 0, backward_out: their number is 39, must be 40")
def digest_of_one_message_left_out() -> Evidence:
    return with_messages(3, (0, "backward_out"), (39, h("backward", 0, 2)))


@row({18}, "messages of rank 1, stage 1, backward_in: their number is 0")
def digests_of_a_channel_left_out() -> Evidence:
    return with_messages(1, (1, "backward_in"), None)


@row({18}, "messages of rank 3, stage 1, forward_out: no hand-off speaks of them")
def messages_behind_the_last_segment() -> Evidence:
    return with_messages(3, (1, "forward_out"), (1, h("to somebody outside")))


@row({18}, "messages of rank 2, stage 2, forward_in: no hand-off speaks of them")
def messages_of_a_stage_that_never_was() -> Evidence:
    return with_messages(2, (2, "forward_in"), (1, h("one more stage")))


@row({18}, "messages of rank 2: the file is damaged")
def messages_that_cannot_be_read() -> Evidence:
    evidence = honest()
    return replace(evidence, messages={**evidence.messages, 2: Unreadable("the file is damaged")})


@row({19}, "run.h5: /metrics/loss@units is")
def units_changed() -> Evidence:
    return replace(honest(), outlines={"run.h5": ("/metrics/loss@units is 'm', must be 'nat'",)})
