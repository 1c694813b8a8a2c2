"""Checks of what was signed in the stages: enrolments, tickets, hand-offs, proofs, both chains."""

from __future__ import annotations

import math

from clicooper_hpc.provenance.envelope import require_envelope_signatures
from clicooper_hpc.provenance.ledger_order import EntryId, ledger_entry_before
from clicooper_hpc.provenance.proof_rules import (
    ProofPart,
    StageFacts,
    expected_proof,
    expected_ticket,
    handoff_problems,
    mark_problems,
    proof_differences,
    proof_state_before,
    ticket_differences,
)
from clicooper_hpc.provenance.statement_fields import TreeHead
from clicooper_hpc.provenance.statements import (
    Enrolment,
    Handoff,
    StageProof,
    Ticket,
    statement_environment_digest,
)
from clicooper_hpc.verification.ledger_view import Findings, LedgerView, NotApplicableError

__all__ = [
    "check_stage_continuity",
    "check_stage_handoffs",
    "check_stage_links",
    "check_stage_marks",
    "check_stage_proofs",
    "check_stage_tickets",
    "expect_tree_head",
]


def check_stage_tickets(view: LedgerView, findings: Findings) -> str:
    """Check the owner's orders against the run statement and the ledger before them."""
    nonces: set[str] = set()
    for entry_id, entry, ticket in view.all_of(Ticket):
        with findings.at(entry_id):
            require_envelope_signatures(entry.envelope, [view.owner])
        # All trainers of a stage share its data: segment 1's ticket speaks for the others.
        first = view.statement_at(Ticket, EntryId("ticket", entry_id.stage, 1))
        expected = expected_ticket(
            view.run,
            entry_id.stage,
            entry_id.segment,
            data_order=first.data_order,
            samples=first.samples,
            ledger=None,
        )
        steps = (ticket.first_step, ticket.last_step)
        wanted = (expected["first_step"], expected["last_step"])
        findings.expect(entry_id, "the range of steps", steps, wanted)
        for one in ticket_differences(ticket, expected):
            if one.field not in ("first_step", "last_step"):
                findings.expect(entry_id, one.words, one.found, one.wanted)
        # The nonce keeps a chain value from being known before its stage begins.
        if ticket.nonce in nonces:
            findings.add_problem(entry_id, "its nonce was used before")
        nonces.add(ticket.nonce)
        size = view.order.size_before_stage(entry_id.stage)
        expect_tree_head(view, findings, entry_id, ticket.ledger, size)
    return f"tickets: {len(nonces)}"


def check_stage_handoffs(view: LedgerView, findings: Findings) -> str:
    """Check that both ends signed, and that gradients went only where they may."""
    count = 0
    for entry_id, entry, handoff in view.all_of(Handoff):
        count += 1
        with findings.at(entry_id):
            ends = [view.key(handoff.boundary), view.key(handoff.boundary + 1)]
            require_envelope_signatures(entry.envelope, ends)
        for problem in handoff_problems(view.run, handoff):
            findings.add_problem(entry_id, problem)
    return f"hand-offs: {count}"


def check_stage_proofs(view: LedgerView, findings: Findings) -> str:
    """Check signatures, tickets and amounts of work."""
    count = moved = 0
    enrolled = {
        enrolment.segment: statement_environment_digest(enrolment.environment).hex
        for _, _, enrolment in view.all_of(Enrolment)
    }
    for entry_id, entry, proof in view.all_of(StageProof):
        count += 1
        moved += proof.environment != enrolled[entry_id.segment]
        with findings.at(entry_id):
            require_envelope_signatures(entry.envelope, [view.key(entry_id.segment)])
        _expect_part(view, findings, entry_id, proof, "work")
    # A requeued job may run elsewhere: worth saying, nothing wrong.
    return f"proofs: {count}, in another environment than enrolled: {moved}"


def check_stage_continuity(view: LedgerView, findings: Findings) -> str:
    """Check that every proof continues the one before it."""
    for entry_id, _, proof in view.all_of(StageProof):
        _expect_part(view, findings, entry_id, proof, "time")
    return f"chains: {view.run.segments}, stages: {view.run.stages}"


def check_stage_links(view: LedgerView, findings: Findings) -> str:
    """Check that every proof builds on its neighbours'."""
    for entry_id, _, proof in view.all_of(StageProof):
        _expect_part(view, findings, entry_id, proof, "neighbours")
    return f"segments: {view.run.segments}, stages: {view.run.stages}"


def check_stage_marks(view: LedgerView, findings: Findings) -> str:
    """Compute the chain values again and look at what the trainers read back."""
    enrolled = {enrolment.segment: enrolment.mark for _, _, enrolment in view.all_of(Enrolment)}
    count = 0
    weakest = math.inf
    for entry_id, _, proof in view.all_of(StageProof):
        for problem in mark_problems(
            proof,
            enrolled[entry_id.segment],
            view.digest_of,
            weights=proof.weights_in,
            public_key=view.key(entry_id.segment).raw,
        ):
            findings.add_problem(entry_id, problem)
        if proof.mark is not None:
            count += 1
            weakest = min(weakest, float(proof.mark.statistic))
    if not any(enrolled.values()) and not findings:
        raise NotApplicableError("no segment carries a mark")
    bare = sum(mark is None for mark in enrolled.values())
    claimed = f", weakest statistic claimed: {weakest:.2f}" if count else ""
    return f"marks: {count}, segments without: {bare}{claimed}; reading one takes its key"


def _expect_part(
    view: LedgerView, findings: Findings, entry_id: EntryId, proof: StageProof, part: ProofPart
) -> None:
    """Hold one part of a proof against the rules, with all that the ledger knows."""
    stage, segment = entry_id.stage, entry_id.segment
    last = view.require_entry(ledger_entry_before(stage, segment)).statement
    weights, optimizer = proof_state_before(view.run, segment, last)
    leaving = proof_before = None
    if segment < view.run.segments:
        leaving = view.require_entry(EntryId("handoff", stage, segment)).payload
    if segment > 1:
        proof_before = view.require_entry(EntryId("stage", stage, segment - 1)).digest
    facts = StageFacts(
        entering=view.require_entry(EntryId("handoff", stage, segment - 1)).payload,
        leaving=leaving,
        proof_before=proof_before,
        start_weights=weights,
        start_optimizer=optimizer,
    )
    ticket = view.statement_at(Ticket, EntryId("ticket", stage, segment))
    expected = expected_proof(view.run, ticket, facts, view.digest_of)
    for one in proof_differences(proof, expected, part):
        # The rank before may have signed two proofs: then this one names what it was sent.
        is_own = one.field != "upstream" or segment == 1
        findings.expect(entry_id if is_own else str(entry_id), one.words, one.found, one.wanted)


def expect_tree_head(
    view: LedgerView, findings: Findings, entry_id: EntryId, head: TreeHead, size: int
) -> None:
    """Compare the ledger head that a statement of the owner names with the tree."""
    findings.expect(entry_id, "the size of the ledger before it", head.size, size)
    findings.expect(entry_id, "the root of the ledger before it", head.root, view.root_at(size))
