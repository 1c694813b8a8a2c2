"""The owner takes no stage into the ledger whose proofs, hand-offs or counts break a rule."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest
from forge import SAMPLES, STEPS, Alter, Forge, changed, h, note_of, owner_and_trainers
from forged_owner import FakeWorld, FakeWriter, Stage, enrol, operator_of, point_of

from clicooper_hpc.errors import EvidenceError
from clicooper_hpc.provenance.identity import Identity
from clicooper_hpc.provenance.ledger_order import EntryId
from clicooper_hpc.provenance.ledger_update import LedgerUpdate
from clicooper_hpc.provenance.statements import (
    Flow,
    MarkClaim,
)
from clicooper_hpc.provenance.tree_checkpoint import SignedCheckpoint, checkpoint_signer

SEGMENTS, STAGE = 3, 1
IDENTITIES = owner_and_trainers(SEGMENTS)
OTHER = h("something else")
PROOF = EntryId("stage", STAGE, 2)
HANDOFF = EntryId("handoff", STAGE, 1)


def forge(
    alter: Mapping[EntryId, Alter] | None = None,
    sign_as: Mapping[EntryId, Sequence[int]] | None = None,
) -> Forge:
    one = Forge(identities=IDENTITIES, alter=alter or {}, sign_as=sign_as or {})
    one.build()
    return one


def test_an_honest_stage_is_stored_whole_and_sent_to_all() -> None:
    one = forge()
    stage = Stage(one)
    stage.log()
    first = one.order.index_of("handoff", STAGE, 0)
    entries = one.entries[first : first + 2 * SEGMENTS]
    stored = [values["envelope"] for table, values in stage.writer.rows if table == "ledger"]
    assert stored == entries
    (sent,) = stage.world.to_all
    assert list(LedgerUpdate.from_bytes(sent, limit=2**20).entries) == entries


PROOF_LIES: dict[str, object] = {
    "run_id": "f" * 32,
    "segment": 3,
    "stage": 0,
    "ticket": OTHER,
    "previous": OTHER,
    "upstream": OTHER,
    "handoff_in": OTHER,
    "handoff_out": OTHER,
    "weights_in": OTHER,
    "optimizer_in": OTHER,
    "steps": STEPS - 1,
    "samples": SAMPLES - 1,
}


@pytest.mark.parametrize("name", PROOF_LIES)
def test_a_proof_with_another_field_is_refused(name: str) -> None:
    lie = forge({PROOF: changed(**{name: PROOF_LIES[name]})})
    Stage(lie).refuse(f"{PROOF}: its {name} is not what it must be")


@pytest.mark.parametrize("segment", [1, 3])
def test_the_proofs_of_the_first_and_the_last_trainer_are_held_too(segment: int) -> None:
    place = EntryId("stage", STAGE, segment)
    Stage(forge({place: changed(upstream=OTHER)})).refuse(f"{place}: its upstream is not")


def test_a_trainer_with_two_proofs_does_not_lay_the_blame_on_the_next() -> None:
    """A neighbour names the proof it got; the owner, who got another, cannot tell who lies."""
    place = EntryId("stage", STAGE, 3)
    says = "must be. Either rank 3 names a proof it was not sent, or rank 2 signed two."
    Stage(forge({place: changed(upstream=OTHER)})).refuse(says)


def test_a_hand_off_behind_the_last_segment_is_refused() -> None:
    place = EntryId("stage", STAGE, SEGMENTS)
    Stage(forge({place: changed(handoff_out=OTHER)})).refuse(f"{place}: its handoff_out is not")


@pytest.mark.parametrize("samples", [SAMPLES - 2, SAMPLES + 2, 0])
def test_a_ticket_of_other_samples_than_the_steps_used_is_refused(samples: int) -> None:
    """The proofs are those of the ticket: only the owner's own count shows the difference."""
    says = f"ticket of segment 1, stage 1: it orders {SAMPLES} samples; {samples} were used"
    Stage(forge()).refuse(says, samples)


def test_a_proof_of_the_samples_used_does_not_answer_a_ticket_of_others() -> None:
    proofs = [EntryId("stage", STAGE, segment) for segment in (1, 2, 3)]
    lie = forge({place: changed(samples=SAMPLES - 2) for place in proofs})
    Stage(lie).refuse(f"it orders {SAMPLES} samples", SAMPLES - 2)


def test_a_mark_of_another_chain_is_refused() -> None:
    mark = MarkClaim(chain=OTHER, leaf_index=STAGE, errors=0, statistic="36.000000")
    Stage(forge({PROOF: changed(mark=mark)})).refuse(f"{PROOF}: the chain value is")


def test_a_missing_proof_is_refused() -> None:
    Stage(forge(), without_proof=2).refuse("proof of rank 2, stage 1: is missing")


@pytest.mark.parametrize("ranks", [(-1,), (0,), (1,), (2, 3)])
def test_a_proof_of_another_signer_is_refused(ranks: Sequence[int]) -> None:
    Stage(forge(sign_as={PROOF: ranks})).refuse(str(PROOF))


@pytest.mark.parametrize("ranks", [(1,), (2,), (1, 3), (1, -1), (0, 2)])
def test_a_hand_off_without_the_signatures_of_both_ends_is_refused(ranks: Sequence[int]) -> None:
    Stage(forge(sign_as={HANDOFF: ranks})).refuse(str(HANDOFF))


def test_a_first_hand_off_of_other_messages_than_the_owner_sent_is_refused() -> None:
    """All that follows is consistent with it; only the owner knows what it sent."""
    sent = Flow(messages=1, bytes=4, root=OTHER)
    lie = forge({EntryId("handoff", STAGE, 0): changed(forward=sent)})
    Stage(lie).refuse("trainer 1 signed another hand-off than the owner")


ENROLMENT = EntryId("enrolment", 0, 2)


def test_trainers_that_answer_the_run_statement_are_enrolled() -> None:
    one = forge()
    run, update = enrol(one).to_all
    assert run == one.entries[0]
    assert list(LedgerUpdate.from_bytes(update, limit=2**20).entries[:4]) == one.entries[:4]


@pytest.mark.parametrize(
    "values",
    [{"run_id": "f" * 32}, {"run": OTHER}, {"segment": 3}],
    ids=lambda one: next(iter(one)),
)
def test_an_enrolment_for_something_else_is_refused(values: dict[str, object]) -> None:
    with pytest.raises(EvidenceError, match="enrolment of rank 2: enrols for something else"):
        enrol(forge({ENROLMENT: changed(**values)}))


@pytest.mark.parametrize("rank", [-1, 0, 3])
def test_only_the_trainer_itself_enrols(rank: int) -> None:
    with pytest.raises(EvidenceError, match="enrolment of rank 2"):
        enrol(forge(sign_as={ENROLMENT: (rank,)}))


class Delivery:
    """A forged run behind its last stage, or closed, with what the trainers cosign."""

    def __init__(self, one: Forge, *, closed: bool = False) -> None:
        self.one = one
        self.world, self.writer = FakeWorld(), FakeWriter()
        self.operator = operator_of(one, self.world, self.writer)
        standing = one.order.size - (0 if closed else 1)
        self.operator.begin(point_of(one, standing, stages=one.stages))
        self.world.to_all.clear()
        note = SignedCheckpoint.parse(note_of(one, one.tree), where="note")
        self.cosign(note, [one.identity(rank) for rank in (1, 2, 3)])

    def cosign(self, note: SignedCheckpoint, identities: Sequence[Identity]) -> None:
        self.world.parts = [
            note.cosign(identity, checkpoint_signer(segment)).to_text().encode()
            for segment, identity in enumerate(identities, 1)
        ]

    def log(self, *, weights: Sequence[str] = (), tables: str = "") -> None:
        proved = [self.one.weights(i, self.one.stages - 1) for i in (1, 2, 3)]
        self.operator.log_delivery(weights or proved, {"accuracy": 0.912}, tables or h("rows", 0))


def test_a_delivery_closes_the_ledger_once() -> None:
    """After a restart behind it only the cosigned checkpoint is still to be stored."""
    for closed in (False, True):
        delivery = Delivery(forge(), closed=closed)
        delivery.log()
        tables = [table for table, _ in delivery.writer.rows]
        assert tables == (["checkpoints"] if closed else ["ledger", "checkpoints"])
        assert delivery.operator.is_closed


@pytest.mark.parametrize("segment", [1, 2, 3])
def test_a_delivery_of_other_weights_than_were_proved_is_not_signed(segment: int) -> None:
    delivery = Delivery(forge())
    weights = [delivery.one.weights(i, delivery.one.stages - 1) for i in (1, 2, 3)]
    weights[segment - 1] = OTHER
    with pytest.raises(EvidenceError, match=f"segment {segment}: the delivered weights are not"):
        delivery.log(weights=weights)
    assert delivery.writer.rows == []
    assert delivery.world.to_all == []


def test_a_restart_signs_no_second_delivery() -> None:
    delivery = Delivery(forge(), closed=True)
    with pytest.raises(EvidenceError, match="other results were signed before the restart"):
        delivery.log(tables=OTHER)
    assert delivery.writer.rows == []


def test_a_checkpoint_cosigned_by_somebody_else_is_not_stored() -> None:
    delivery = Delivery(forge())
    stranger = [delivery.one.identity(rank) for rank in (1, -1, 3)]
    note = SignedCheckpoint.parse(note_of(delivery.one, delivery.one.tree), where="note")
    delivery.cosign(note, stranger)
    with pytest.raises(EvidenceError, match="checkpoint cosigned by rank 2"):
        delivery.log()
    assert [table for table, _ in delivery.writer.rows] == ["ledger"]
