"""What a trainer refuses before it goes on: another run, other orders, a neighbour's lie."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from exchange_cases import (
    HANDOFF,
    IDENTITIES,
    ORDER,
    PROOF,
    SEGMENT,
    STAGE,
    TICKET,
    FakeWriter,
    exchange_of,
    forge,
    message_of,
    others,
    records,
    run_statement,
)
from forge import SAMPLES, STEPS, Forge, changed, h, plan_of

from clicooper_hpc.errors import EvidenceError
from clicooper_hpc.provenance.envelope import require_envelope_signatures
from clicooper_hpc.provenance.ledger_order import EntryId
from clicooper_hpc.provenance.ledger_update import LedgerUpdate
from clicooper_hpc.provenance.proof_message import ProofMessage
from clicooper_hpc.provenance.statements import (
    Flow,
    RunStatement,
    StageProof,
    Ticket,
    TreeHead,
    parse_statement,
)
from clicooper_hpc.provenance.tree_checkpoint import SignedCheckpoint

HONEST = forge()
PLAN = plan_of(HONEST)
RUN = run_statement(HONEST)
WEIGHTS = RUN.initial_weights[SEGMENT - 1]
OTHER = h("something else")


def accept_run(run: Any) -> RunStatement:
    return exchange_of(HONEST).accept_run(run, PLAN, job_digest=RUN.job_digest, weights=WEIGHTS)


def test_the_run_that_was_agreed_on_is_accepted() -> None:
    assert accept_run(RUN) == RUN


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"run_id": "f" * 32}, "another run or job"),
        ({"job_digest": OTHER}, "another run or job"),
        ({"owner": OTHER}, "other keys"),
        ({"trainers": (*RUN.trainers[:1], OTHER, *RUN.trainers[2:])}, "other keys"),
        ({"trainers": RUN.trainers[::-1]}, "other keys"),
        ({"initial_weights": (*RUN.initial_weights[:2], OTHER)}, "other initial weights"),
        ({"stage_bounds": others(RUN.stage_bounds)}, "other stages"),
        ({"total_steps": 30, "stage_bounds": (0, 10, 30)}, "other stages"),
        ({"stage_bounds": (0, 5, 10, 20)}, "other stages"),
        ({"coupling": "one-way"}, "another coupling"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_a_statement_of_another_run_is_refused(values: dict[str, object], says: str) -> None:
    # As it arrives: a statement that could not have been signed would prove nothing.
    lie = parse_statement(RUN.model_copy(update=values).statement_bytes())
    with pytest.raises(EvidenceError, match=f"run statement of the owner: .*{says}"):
        accept_run(lie)


def test_another_kind_of_statement_is_no_run() -> None:
    with pytest.raises(EvidenceError, match="is another statement"):
        accept_run(parse_statement(HONEST.envelopes[TICKET].payload))


def accept_ticket(one: Forge) -> Ticket:
    return exchange_of(one).accept_ticket(RUN, STAGE, ORDER)


def test_the_ticket_of_the_agreed_job_is_accepted() -> None:
    assert accept_ticket(HONEST).samples == SAMPLES


TICKET_LIES: dict[str, object] = {
    "run_id": "f" * 32,
    "segment": SEGMENT - 1,
    "stage": STAGE - 1,
    "first_step": STEPS * STAGE - 1,
    "last_step": STEPS * (STAGE + 1) + 1,
    "data_order": OTHER,
    "samples": SAMPLES - 1,
    "job_digest": OTHER,
    "ledger": TreeHead(size=HONEST.order.size_before_stage(STAGE), root=OTHER),
}


def test_the_lies_are_about_every_field_that_is_not_free() -> None:
    assert set(TICKET_LIES) == set(Ticket.model_fields) - {"nonce"}


@pytest.mark.parametrize("name", TICKET_LIES)
def test_a_ticket_that_orders_something_else_is_refused(name: str) -> None:
    lie = forge({TICKET: changed(**{name: TICKET_LIES[name]})})
    with pytest.raises(EvidenceError, match=f"{TICKET}: orders something else"):
        accept_ticket(lie)


def test_a_ticket_of_an_older_ledger_is_refused() -> None:
    older = TreeHead(size=4, root=exchange_of(HONEST).ledger.tree_head(4).root)
    with pytest.raises(EvidenceError, match="orders something else"):
        accept_ticket(forge({TICKET: changed(ledger=older)}))


def test_another_statement_in_the_place_of_a_ticket_is_refused() -> None:
    with pytest.raises(EvidenceError, match="orders something else"):
        accept_ticket(forge({TICKET: lambda _: RUN}))


@pytest.mark.parametrize("ranks", [(-1,), (SEGMENT - 1,), (SEGMENT,), (0, -1)])
def test_only_the_owner_orders(ranks: Sequence[int]) -> None:
    with pytest.raises(EvidenceError, match=str(TICKET)):
        accept_ticket(forge(sign_as={TICKET: ranks}))


def receive(one: Forge, message: ProofMessage | None = None) -> Any:
    exchange = exchange_of(one, message or message_of(one))
    return exchange.receive_handoff(run_statement(one), STAGE, records())


def test_an_honest_handoff_is_countersigned() -> None:
    handoff, proof = receive(HONEST)
    _, trainers = IDENTITIES
    signers = [one.public for one in trainers[SEGMENT - 2 : SEGMENT]]
    require_envelope_signatures(handoff, signers, where="hand-off")
    assert (handoff, proof) == (HONEST.envelopes[HANDOFF], HONEST.envelopes[PROOF])


def flow(**values: object) -> Flow:
    return records()["forward_in"].flow().model_copy(update=values)


@pytest.mark.parametrize(
    "values",
    [
        {"run_id": "f" * 32},
        {"stage": STAGE - 1},
        {"boundary": SEGMENT - 2},
        {"forward": flow(root=OTHER)},
        {"forward": flow(messages=STEPS - 1)},
        {"forward": flow(bytes=1)},
        {"backward": flow()},
    ],
    ids=lambda values: "-".join(values),
)
def test_a_handoff_of_other_messages_is_not_countersigned(values: dict[str, object]) -> None:
    lie = forge({HANDOFF: changed(**values)})
    with pytest.raises(EvidenceError, match="other messages than came here"):
        receive(lie)


@pytest.mark.parametrize("place", [HANDOFF, PROOF], ids=str)
@pytest.mark.parametrize("rank", [-1, 0, SEGMENT - 2, SEGMENT])
def test_only_the_rank_before_signs_what_it_sends(place: EntryId, rank: int) -> None:
    ranks = (rank, SEGMENT if rank != SEGMENT else 0) if place == HANDOFF else (rank,)
    with pytest.raises(EvidenceError, match=f"proof of rank {SEGMENT - 1}, stage {STAGE}"):
        receive(forge(sign_as={place: ranks}))


def test_a_neighbours_proof_of_another_start_is_refused() -> None:
    """As the owner will ask for it: a rank that took it would be taken for its maker."""
    with pytest.raises(EvidenceError, match="its start is not what it must be"):
        receive(forge({PROOF: changed(start=OTHER)}))


def test_what_only_the_owner_is_sent_is_refused_from_a_neighbour() -> None:
    message = replace(message_of(HONEST), upstream=HONEST.envelopes[PROOF])
    with pytest.raises(EvidenceError, match="comes with a proof that only the owner is sent"):
        receive(HONEST, message)


def test_a_neighbour_without_proof_is_refused() -> None:
    with pytest.raises(EvidenceError, match="is missing"):
        receive(HONEST, message_of(HONEST, proof=False))


#: What this rank knows of its neighbour's proof: not what came in there, nor the proof before it.
PROOF_LIES: dict[str, object] = {
    "run_id": "f" * 32,
    "ticket": OTHER,
    "steps": STEPS - 1,
    "samples": SAMPLES - 1,
    "previous": OTHER,
    "weights_in": OTHER,
    "optimizer_in": OTHER,
    "handoff_out": OTHER,
}


@pytest.mark.parametrize("name", PROOF_LIES)
def test_a_neighbours_proof_that_breaks_a_rule_is_refused(name: str) -> None:
    lie = forge({PROOF: changed(**{name: PROOF_LIES[name]})})
    with pytest.raises(EvidenceError, match=f"its {name} is not what it must be"):
        receive(lie)


@pytest.mark.parametrize("name", PROOF_LIES)
def test_what_the_owner_may_have_caused_is_not_laid_on_the_neighbour_alone(name: str) -> None:
    """Ticket and proof before it are compared with a ledger that the owner may have forked."""
    with pytest.raises(EvidenceError) as caught:
        receive(forge({PROOF: changed(**{name: PROOF_LIES[name]})}))
    shared = name in ("ticket", "samples", "previous", "weights_in", "optimizer_in")
    says = f"Either rank {SEGMENT - 1} lies, or rank 0 sent it another ledger."
    assert (says in caught.value.line()) == shared


def test_a_neighbours_proof_of_no_handoff_is_refused() -> None:
    with pytest.raises(EvidenceError, match="its handoff_out is not what it must be"):
        receive(forge({PROOF: changed(handoff_out=None)}))


def test_a_chain_of_trainers_cannot_agree_on_other_samples() -> None:
    """All proofs of the stage say the same wrong number; the owner's ticket says another."""
    proofs = [EntryId("stage", STAGE, segment) for segment in (1, 2, 3)]
    lie = forge({place: changed(samples=SAMPLES + 1) for place in proofs})
    with pytest.raises(EvidenceError, match="its samples is not what it must be"):
        receive(lie)


@pytest.mark.parametrize(
    "place", [EntryId("stage", STAGE - 1, SEGMENT - 1), EntryId("stage", STAGE, SEGMENT)], ids=str
)
def test_a_proof_of_something_else_is_refused(place: EntryId) -> None:
    values = {"segment": place.segment, "stage": place.stage}
    with pytest.raises(EvidenceError, match="is a proof of something else"):
        receive(forge({PROOF: changed(**values)}))


def test_another_statement_in_the_place_of_a_proof_is_refused() -> None:
    with pytest.raises(EvidenceError, match="is a proof of something else"):
        receive(forge({PROOF: lambda _: RUN}))


def test_an_older_proof_of_the_neighbour_is_refused() -> None:
    older = HONEST.envelopes[EntryId("stage", STAGE - 1, SEGMENT - 1)]
    assert isinstance(parse_statement(older.payload), StageProof)
    with pytest.raises(EvidenceError, match="is a proof of something else"):
        receive(HONEST, replace(message_of(HONEST), proof=older))


#: What ends the stage: hand-offs and proofs, behind them a checkpoint; no stage comes after it.
FIRST = HONEST.order.index_of("handoff", STAGE, 0)
SIZE = HONEST.order.size_before_stage(STAGE + 1)
UPDATE = LedgerUpdate(tuple(HONEST.entries[FIRST:SIZE]), (HONEST.notes[STAGE + 1],))
WHOLE = LedgerUpdate(tuple(HONEST.entries[:SIZE]), tuple(HONEST.notes[: STAGE + 2]))
HEADS = HONEST.heads[SEGMENT][: STAGE + 2]


def test_an_update_with_this_ranks_proof_is_taken_and_its_head_stored() -> None:
    mine = HONEST.order.index_of("stage", STAGE, SEGMENT)
    writer = FakeWriter()
    exchange = exchange_of(HONEST, updates=[UPDATE], writer=writer)
    exchange.take_update({mine: HONEST.entries[mine]})
    assert writer.heads == HEADS[-1:]


def test_an_update_with_another_proof_in_the_place_of_this_ranks_is_refused() -> None:
    """Signed by this rank too, as after a stage that was trained twice."""
    mine = HONEST.order.index_of("stage", STAGE, SEGMENT)
    place = EntryId("stage", STAGE, SEGMENT)
    signed = forge({place: changed(weights_out=OTHER)}).envelopes[place].to_bytes()
    writer = FakeWriter()
    exchange = exchange_of(HONEST, updates=[UPDATE], writer=writer)
    with pytest.raises(EvidenceError, match=f"ledger entry {mine}: the owner put another"):
        exchange.take_update({mine: signed})
    assert writer.heads == []


def test_after_a_restart_the_ledger_that_was_seen_is_taken_over() -> None:
    writer = FakeWriter()
    exchange = exchange_of(HONEST, updates=[WHOLE], has_ledger=False, writer=writer)
    exchange.take_whole_ledger(HEADS[:-1])
    assert writer.heads == HEADS[-1:]
    assert exchange.ledger.size == SIZE


@pytest.mark.parametrize(
    "heads",
    [
        [(HEADS[0][0], OTHER), *HEADS[1:]],
        [*HEADS[:-1], (HEADS[-1][0], OTHER)],
        [*HEADS, (SIZE + 1, OTHER)],
    ],
    ids=["first", "last", "longer"],
)
def test_after_a_restart_another_ledger_than_was_seen_is_refused(
    heads: Sequence[tuple[int, str]],
) -> None:
    """Valid in itself and signed by the owner: only what this rank stored tells it apart."""
    exchange = exchange_of(HONEST, updates=[WHOLE], has_ledger=False)
    with pytest.raises(EvidenceError, match=f"is not the one rank {SEGMENT} saw before"):
        exchange.take_whole_ledger(heads)


def test_after_a_restart_both_notes_of_an_owner_with_two_ledgers_are_kept() -> None:
    """The owner shows another past: with the note stored then, its own key shows that."""
    other = forge({TICKET: changed(nonce=OTHER)})
    seen = [
        (one.checkpoint.size, one.checkpoint.root.hex()) for one in map(parsed, other.seen_notes)
    ]
    exchange = exchange_of(HONEST, updates=[WHOLE], has_ledger=False)
    with pytest.raises(EvidenceError, match="is not the one"):
        exchange.take_whole_ledger(seen[: len(HEADS)], other.seen_notes[: len(HEADS)])
    found = exchange.equivocation
    assert found is not None
    size = found.forked_size(HONEST.owner.public, HONEST.run_id, where="here")
    assert size in dict(HEADS)


def parsed(note: str) -> SignedCheckpoint:
    return SignedCheckpoint.parse(note)
