"""Lies in enrolments, tickets, hand-offs, proofs, both chains and marks."""

from __future__ import annotations

from dataclasses import replace

from forge import NOTHING, changed, h
from lies import (
    ENROLMENT,
    HANDOFF,
    IDENTITIES,
    PROOF,
    RUN,
    TICKET,
    collector,
    forged,
    honest,
    in_payload,
    index,
    signed_by,
    with_entry,
)

from clicooper_hpc.provenance.envelope import parse_envelope
from clicooper_hpc.provenance.ledger_order import EntryId
from clicooper_hpc.provenance.marks.mark_plan import MarkPlan
from clicooper_hpc.provenance.merkle import MerkleTree
from clicooper_hpc.provenance.statement_fields import MarkClaim, TreeHead
from clicooper_hpc.provenance.statements import Predicate, RunStatement, StageProof, Ticket
from clicooper_hpc.verification.evidence import Evidence

ROWS, row = collector()


# --- Enrolments -----------------------------------------------------------------------------------


@row({6}, "signed by")
def enrolment_signed_by_another_trainer() -> Evidence:
    return signed_by(ENROLMENT, 1)


@row({6}, "signed by")
def enrolment_signed_by_the_owner_for_a_trainer() -> Evidence:
    return signed_by(ENROLMENT, 0)


@row({6}, "does not allow")
def trainer_the_job_does_not_admit() -> Evidence:
    keys = {IDENTITIES[1][0].public, IDENTITIES[1][2].public}
    return replace(honest(), allowed_keys=keys)


@row({6}, "the run statement")
def enrolment_for_another_run_statement() -> Evidence:
    return forged(ENROLMENT, run=h("another run statement"))


@row({6}, "planned to read")
def mark_planned_too_weak_to_prove_anything() -> Evidence:
    return honest(plans={2: MarkPlan(4, 16, 0.5, ("0.weight",))})


@row({6}, "names no mark")
def trainer_that_enrols_without_the_marks_the_job_asks_for() -> Evidence:
    return honest(
        alter={
            ENROLMENT: changed(mark=None),
            EntryId("stage", 0, 2): changed(mark=None),
            PROOF: changed(mark=None),
        }
    )


@row({6}, "names no mark")
def all_trainers_leave_out_the_marks_the_job_asks_for() -> Evidence:
    return replace(honest(marks=False), marks=True)


# --- Tickets --------------------------------------------------------------------------------------


@row({7}, "signed by")
def trainer_orders_itself() -> Evidence:
    return signed_by(TICKET, 2)


@row({7}, "nonce was used")
def nonce_used_before() -> Evidence:
    return forged(TICKET, nonce=h("nonce", 0, 1))


@row({7}, "range of steps")
def ticket_for_fewer_steps() -> Evidence:
    return forged(TICKET, last_step=15)


@row({7}, "range of steps")
def ticket_that_begins_again() -> Evidence:
    return forged(TICKET, first_step=0)


@row({7}, "job's digest")
def ticket_for_another_job() -> Evidence:
    return forged(TICKET, job_digest=h("job"))


@row({7}, "order of the data")
def ticket_with_other_data_for_one_trainer() -> Evidence:
    return forged(TICKET, data_order=h("order of another epoch"))


@row({7}, "root of the ledger")
def ticket_over_another_ledger() -> Evidence:
    def lie(predicate: Predicate) -> Predicate:
        assert isinstance(predicate, Ticket)
        head = TreeHead(size=predicate.ledger.size, root=h("the ledger shown to trainer 2"))
        return predicate.model_copy(update={"ledger": head})

    return honest(alter={TICKET: lie})


@row({7}, "size of the ledger")
def ticket_over_an_older_ledger() -> Evidence:
    evidence = honest()
    tree = MerkleTree()
    for entry in evidence.entries[:4]:
        tree.append(entry)
    return forged(TICKET, ledger=TreeHead(size=4, root=tree.root().hex()))


@row({7, 9}, "number of samples is 640, must be 1280")
def ticket_over_fewer_samples_for_one_trainer() -> Evidence:
    return forged(TICKET, samples=640)


# --- Hand-offs ------------------------------------------------------------------------------------


@row({8}, "signed by")
def handoff_without_the_receiver() -> Evidence:
    return signed_by(HANDOFF, 1)


@row({8}, "signed by")
def handoff_without_the_sender() -> Evidence:
    return signed_by(HANDOFF, 2)


@row({8}, "signed by")
def handoff_by_the_wrong_pair() -> Evidence:
    return signed_by(HANDOFF, 2, 3)


@row({8}, "back to the owner")
def gradients_to_the_owner() -> Evidence:
    flow = NOTHING.model_copy(update={"messages": 4, "bytes": 16, "root": h("gradients")})
    return forged(EntryId("handoff", 0, 0), backward=flow)


@row({8}, "one-way run")
def gradients_in_a_one_way_run() -> Evidence:
    flow = NOTHING.model_copy(update={"messages": 4, "bytes": 16, "root": h("gradients")})
    return honest(coupling="one-way", alter={HANDOFF: changed(backward=flow)})


@row({8}, "0 messages went back")
def no_gradients_in_a_backprop_run() -> Evidence:
    return forged(HANDOFF, backward=NOTHING)


@row({8}, "nothing went forward")
def trainer_that_was_never_fed() -> Evidence:
    return forged(HANDOFF, forward=NOTHING)


# --- Proofs ---------------------------------------------------------------------------------------


@row({9}, "signed by")
def proof_signed_by_another_trainer() -> Evidence:
    return signed_by(PROOF, 3)


@row({9}, "signed by")
def proof_signed_by_the_owner() -> Evidence:
    return signed_by(PROOF, 0)


@row({9, 11, 13}, "signature")
def statement_changed_under_its_signature() -> Evidence:
    later = in_payload(lambda payload: payload.replace(b"03:05:05.25Z", b"03:04:35.25Z"))
    return with_entry(PROOF, later, sealed=True)


@row({9}, "the ticket")
def proof_for_the_ticket_of_an_earlier_stage() -> Evidence:
    old = honest()
    digest = parse_envelope(old.entries[index(EntryId("ticket", 0, 2))]).digest().hex
    return forged(PROOF, ticket=digest)


@row({9}, "number of steps")
def proof_of_fewer_steps() -> Evidence:
    return forged(PROOF, steps=9)


@row({9}, "number of samples")
def proof_over_fewer_samples() -> Evidence:
    return forged(PROOF, samples=64)


@row({9}, "number of samples is 64, must be 1280")
def colluding_trainers_that_all_claim_fewer_samples() -> Evidence:
    places = [EntryId("stage", stage, segment) for stage in (0, 1) for segment in (1, 2, 3)]
    return honest(alter={place: changed(samples=64) for place in places})


@row({9}, "number of samples is 1280, must be 2560")
def owner_that_signed_another_count_than_was_trained_on() -> Evidence:
    places = [EntryId("ticket", 1, segment) for segment in (1, 2, 3)]
    return honest(alter={place: changed(samples=2560) for place in places})


# --- Chain in time --------------------------------------------------------------------------------


@row({10}, "the proof before it")
def proof_that_names_another_past() -> Evidence:
    return forged(PROOF, previous=h("a proof nobody logged"))


@row({10, 12}, "weights at start")
def weights_swapped_between_two_stages() -> Evidence:
    return forged(PROOF, weights_in=h("weights bought elsewhere"))


@row({10, 14}, "weights at start")
def weights_proved_that_nobody_went_on_with() -> Evidence:
    return forged(EntryId("stage", 0, 2), weights_out=h("better weights"))


@row({10}, "optimizer at start")
def optimizer_forgotten_between_two_stages() -> Evidence:
    return forged(PROOF, optimizer_in=h("nothing"))


@row({10}, "weights at start")
def trained_from_other_initial_weights() -> Evidence:
    def lie(predicate: Predicate) -> Predicate:
        assert isinstance(predicate, RunStatement)
        one, _, three = predicate.initial_weights
        return predicate.model_copy(update={"initial_weights": (one, h("claimed"), three)})

    return honest(alter={RUN: lie})


# --- Chain across trainers ------------------------------------------------------------------------


@row({11}, "proof upstream")
def proof_that_names_another_neighbour() -> Evidence:
    return forged(PROOF, upstream=h("a proof of somebody else"))


@row({11}, "proof upstream")
def proof_of_segment_1_without_the_owners_release() -> Evidence:
    return forged(EntryId("stage", 1, 1), upstream=h("other rows"))


@row({11}, "hand-off in")
def sender_and_receiver_name_different_handoffs() -> Evidence:
    return forged(PROOF, handoff_in=h("other messages"))


@row({11}, "hand-off out")
def proof_that_hides_what_it_sent() -> Evidence:
    return forged(PROOF, handoff_out=None)


@row({11}, "hand-off out")
def last_segment_that_sends_on() -> Evidence:
    return forged(EntryId("stage", 1, 3), handoff_out=h("to somebody outside"))


# --- Marks ----------------------------------------------------------------------------------------


def with_mark(**values: object) -> Evidence:
    def lie(predicate: Predicate) -> Predicate:
        assert isinstance(predicate, StageProof)
        assert predicate.mark is not None
        return predicate.model_copy(update={"mark": predicate.mark.model_copy(update=values)})

    return honest(alter={PROOF: lie})


@row({12}, "the chain value")
def mark_with_a_chain_value_of_choice() -> Evidence:
    return with_mark(chain=h("ground until the weights fitted"))


@row({12}, "index of the mark key")
def mark_with_the_key_of_another_stage() -> Evidence:
    return with_mark(leaf_index=0)


@row({12}, "below 9.42")
def mark_no_better_than_chance() -> Evidence:
    return with_mark(statistic="3.100000")


@row({12}, "wrong bits")
def mark_read_with_errors() -> Evidence:
    return with_mark(errors=2)


@row({12}, "has no mark")
def mark_left_out_of_one_stage() -> Evidence:
    return forged(PROOF, mark=None)


@row({12}, "never enrolled")
def mark_claimed_in_a_run_without_marks() -> Evidence:
    mark = MarkClaim(chain=h("c"), leaf_index=1, errors=0, statistic="40.0")
    return honest(marks=False, alter={PROOF: changed(mark=mark)})
