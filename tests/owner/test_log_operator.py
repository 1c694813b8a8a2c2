"""The owner takes no stage into the ledger whose proofs, hand-offs or counts break a rule."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from forge import SAMPLES, STEPS, Alter, Forge, changed, h, note_of, owner_and_trainers
from forged_owner import FakeWorld, FakeWriter, Stage, enrol, operator_of, point_of

from clicooper_hpc.errors import EvidenceError
from clicooper_hpc.provenance.envelope import Envelope
from clicooper_hpc.provenance.equivocation import Equivocation
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
NEXT = EntryId("stage", STAGE, 3)
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
    "start": OTHER,
    "ticket": OTHER,
    "previous": OTHER,
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


def test_the_proof_of_the_first_trainer_builds_on_the_owners_hand_off() -> None:
    place = EntryId("stage", STAGE, 1)
    Stage(forge({place: changed(upstream=OTHER)})).refuse(f"{place}: its upstream is not")


@pytest.mark.parametrize("segment", [2, 3])
def test_a_proof_that_names_another_than_it_comes_with_is_its_trainers_fault(segment: int) -> None:
    place = EntryId("stage", STAGE, segment)
    says = f"{place}: its upstream is not the proof it comes with"
    Stage(forge({place: changed(upstream=OTHER)})).refuse(says)


def shown(values: Mapping[str, object] | None = None, ranks: Sequence[int] = (2,)) -> Envelope:
    """Return a proof of rank 2 with other values, by these signers."""
    one = forge({PROOF: changed(**values or {})}, {PROOF: ranks})
    return one.envelopes[PROOF]


def building_on(presented: Envelope, folder: Path) -> Stage:
    """A stage in which rank 3 names this as the proof of rank 2, and presents it."""
    one = forge({NEXT: changed(upstream=presented.digest().hex)})
    return Stage(one, presented={3: presented}, folder=folder)


@pytest.mark.parametrize("values", [{"environment": OTHER}, {"weights_out": OTHER}, {"mark": None}])
def test_of_a_trainer_with_two_proofs_both_are_kept_and_it_alone_is_named(
    tmp_path: Path, values: Mapping[str, object]
) -> None:
    stage = building_on(shown(values), tmp_path)
    line = stage.refuse(f"{PROOF}: rank 2 signed two, this one and one for its neighbour: see ")
    (path,) = (tmp_path / "equivocation").iterdir()
    assert path.name.startswith("rank-000-")
    assert str(path) in line
    assert set(re.findall(r"(?:rank|segment) ([0-9])", line)) == {"2"}
    found = Equivocation.from_bytes(path.read_bytes(), where="file")
    keys = [one.public for one in IDENTITIES[1]]
    assert found.doubled_proof(keys, forge().run_id, where="file") == (2, STAGE)


#: What rank 3 names and presents as the proof of rank 2, although no honest rank 2 has sent it.
PRESENTED: dict[str, Callable[[], Envelope]] = {
    "signed by rank 3": lambda: shown(ranks=(3,)),
    "signed by rank 3 too": lambda: shown(ranks=(2, 3)),
    "signed by a stranger": lambda: shown({"weights_out": OTHER}, (-1,)),
    "signed by the owner": lambda: shown(ranks=(0,)),
    # Rank 2 has signed all of these, and none of them is its second proof of this stage.
    "of an earlier start": lambda: shown({"start": OTHER}),
    "of the stage before": lambda: forge().envelopes[EntryId("stage", STAGE - 1, 2)],
    "of another run": lambda: shown({"run_id": "f" * 32}),
    "of another segment": lambda: shown({"segment": 1}),
    "no proof": lambda: forge().envelopes[EntryId("enrolment", 0, 2)],
    "changed afterwards": lambda: replace(
        shown(), payload=shown().payload.replace(b'"errors":0', b'"errors":1')
    ),
}


@pytest.mark.parametrize("present", PRESENTED.values(), ids=PRESENTED)
def test_what_no_honest_neighbour_sent_accuses_whoever_presents_it(
    tmp_path: Path, present: Callable[[], Envelope]
) -> None:
    says = f"{NEXT}: it comes with what is no proof of rank 2 of this stage and start"
    building_on(present(), tmp_path).refuse(says)
    assert not any(tmp_path.iterdir())


def test_a_trainer_presents_the_proof_it_builds_on_and_the_first_none() -> None:
    one = forge()
    says = f"{NEXT}: comes without the proof it builds on"
    Stage(one, presented={3: None}).refuse(says)
    says = f"{EntryId('stage', STAGE, 1)}: comes with a proof of nobody before"
    Stage(one, presented={1: one.envelopes[PROOF]}).refuse(says)


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
