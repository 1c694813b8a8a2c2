"""The rules of tickets and proofs: every field is held, and only by a party that can know it."""

from __future__ import annotations

from typing import Any

import pytest
from forge import SAMPLES, START, Forge, h

from clicooper_hpc.provenance.ledger_order import EntryId, ledger_entry_before
from clicooper_hpc.provenance.proof_rules import (
    StageFacts,
    expected_proof,
    expected_ticket,
    mark_chain_of,
    proof_differences,
    proof_state_before,
    ticket_differences,
)
from clicooper_hpc.provenance.statements import (
    Predicate,
    RunStatement,
    StageProof,
    Ticket,
    TreeHead,
    parse_statement,
)

FORGE = Forge(segments=3, stages=2)
FORGE.build()


def statement(*entry: Any) -> Any:
    return parse_statement(FORGE.envelopes[EntryId(*entry)].payload)


def digest_of(entry: EntryId) -> bytes:
    return FORGE.envelopes[entry].digest().value


def facts(stage: int, segment: int) -> StageFacts:
    """Return all that the owner knows of a stage of a segment."""
    last: Predicate = statement(*_parts(ledger_entry_before(stage, segment)))
    weights, optimizer = proof_state_before(statement("run"), segment, last)
    leaving = None
    if segment < FORGE.segments:
        leaving = FORGE.envelopes[EntryId("handoff", stage, segment)].payload_digest().hex
    return StageFacts(
        entering=FORGE.envelopes[EntryId("handoff", stage, segment - 1)].payload_digest().hex,
        leaving=leaving,
        proof_before=FORGE.digest("stage", stage, segment - 1) if segment > 1 else None,
        start_weights=weights,
        start_optimizer=optimizer,
        run_start=START,
    )


def _parts(entry: EntryId) -> tuple[Any, ...]:
    return entry.kind, entry.stage, entry.segment


def expected(stage: int, segment: int, known: StageFacts | None = None) -> dict[str, object]:
    run: RunStatement = statement("run")
    ticket: Ticket = statement("ticket", stage, segment)
    return expected_proof(run, ticket, known or facts(stage, segment), digest_of)


@pytest.mark.parametrize("stage", [0, 1])
@pytest.mark.parametrize("segment", [1, 2, 3])
def test_an_honest_proof_says_what_is_expected(stage: int, segment: int) -> None:
    proof: StageProof = statement("stage", stage, segment)
    assert proof_differences(proof, expected(stage, segment)) == []


@pytest.mark.parametrize(
    ("field", "part"),
    [
        ("run_id", "work"),
        ("segment", "work"),
        ("stage", "work"),
        ("start", "work"),
        ("ticket", "work"),
        ("steps", "work"),
        ("samples", "work"),
        ("previous", "time"),
        ("weights_in", "time"),
        ("optimizer_in", "time"),
        ("upstream", "neighbours"),
        ("handoff_in", "neighbours"),
        ("handoff_out", "neighbours"),
    ],
)
def test_every_field_is_held_in_its_part_alone(field: str, part: Any) -> None:
    proof: StageProof = statement("stage", 1, 2)
    other: object = 7 if isinstance(getattr(proof, field), int) else h("something else")
    lie = proof.model_copy(update={field: other})
    wanted = expected(1, 2)
    found = proof_differences(lie, wanted, part)
    assert [(one.field, one.found, one.wanted) for one in found] == [(field, other, wanted[field])]
    assert proof_differences(lie, wanted) == found
    for without in {"work", "time", "neighbours"} - {part}:
        assert proof_differences(lie, wanted, without) == []  # type: ignore[arg-type]


def test_the_rules_cover_all_but_what_the_trainer_alone_can_say() -> None:
    own = {"weights_out", "optimizer_out", "mark", "tables", "environment", "time"}
    assert set(expected(1, 2)) == set(StageProof.model_fields) - own
    nonce = {"nonce"}
    run: RunStatement = statement("run")
    head = TreeHead(size=4, root=h("root"))
    ticket = expected_ticket(run, 1, 2, data_order=h("o"), samples=7, ledger=head)
    assert set(ticket) == set(Ticket.model_fields) - nonce


def test_what_a_party_does_not_know_is_not_held_against_anybody() -> None:
    """A trainer knows of its neighbour's proof neither what came in nor the proof before it."""
    proof: StageProof = statement("stage", 1, 2)
    leaving = facts(1, 2).leaving
    wanted = expected(1, 2, StageFacts(leaving=leaving))
    unknown = {"upstream", "handoff_in", "weights_in", "optimizer_in", "start"}
    assert set(expected(1, 2)) - set(wanted) == unknown
    assert proof_differences(proof.model_copy(update=dict.fromkeys(unknown, h("x"))), wanted) == []
    assert proof_differences(proof.model_copy(update={"samples": 1}), wanted) != []


def test_nothing_leaves_the_last_segment_and_a_proof_of_none_is_upstream_of_the_first() -> None:
    last: StageProof = statement("stage", 1, 3)
    lie = last.model_copy(update={"handoff_out": h("to somebody outside")})
    assert [one.field for one in proof_differences(lie, expected(1, 3))] == ["handoff_out"]
    first = expected(1, 1)
    assert first["upstream"] == first["handoff_in"]


def test_the_optimizer_of_stage_0_is_the_trainers_word() -> None:
    assert "optimizer_in" not in expected(0, 2)
    assert expected(0, 2)["weights_in"] == statement("run").initial_weights[1]
    assert expected(1, 2)["optimizer_in"] == statement("stage", 0, 2).optimizer_out


@pytest.mark.parametrize("field", sorted(set(Ticket.model_fields) - {"nonce"}))
def test_every_field_of_a_ticket_is_held(field: str) -> None:
    ticket: Ticket = statement("ticket", 1, 2)
    wanted = expected_ticket(
        statement("run"),
        1,
        2,
        data_order=h("order", 1),
        samples=SAMPLES,
        ledger=ticket.ledger,
    )
    assert ticket_differences(ticket, wanted) == []
    lie = ticket.model_copy(update={field: "other"})
    assert [one.field for one in ticket_differences(lie, wanted)] == [field]


@pytest.mark.parametrize("stage", [0, 1])
@pytest.mark.parametrize("segment", [1, 2, 3])
def test_the_mark_chain_is_put_together_from_the_ledger(stage: int, segment: int) -> None:
    chain = mark_chain_of(
        digest_of,
        stage,
        segment,
        weights=FORGE.weights(segment, stage - 1),
        public_key=FORGE.trainers[segment - 1].public.raw,
    )
    assert chain.hex == FORGE.chain(stage, segment) == statement("stage", stage, segment).mark.chain
