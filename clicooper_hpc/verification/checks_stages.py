"""Checks of what was signed in the stages: enrolments, tickets, hand-offs, proofs, both chains."""

from __future__ import annotations

from clicooper_hpc.provenance.chain import Place
from clicooper_hpc.provenance.claims import TreeHead
from clicooper_hpc.provenance.envelope import require_signatures
from clicooper_hpc.provenance.marks.plan import LEAST_STATISTIC, MarkPlan
from clicooper_hpc.provenance.statements import (
    Enrolment,
    Handoff,
    StageProof,
    Ticket,
    environment_digest,
)
from clicooper_hpc.verification.ledger_view import Findings, LedgerView

__all__ = [
    "check_chain_across_trainers",
    "check_chain_in_time",
    "check_enrolments",
    "check_handoffs",
    "check_proofs",
    "check_tickets",
    "expect_head",
]


def check_enrolments(view: LedgerView, findings: Findings) -> str:
    """Check signatures, keys and the run statement they name."""
    allowed = view.evidence.allowed_keys
    marks = view.evidence.marks
    for place, entry, enrolment in view.all_of(Enrolment):
        key = view.key(enrolment.segment)
        with findings.at(place):
            require_signatures(entry.envelope, [key])
        findings.expect(place, "the run statement", enrolment.run, view.entries[0].digest)
        if allowed is not None and key not in allowed:
            findings.problem(place, f"the job does not allow the key {key.keyid[:16]}...")
        if marks is not None and (enrolment.mark is not None) != marks:
            findings.problem(place, "it names no mark" if marks else "it names a mark")
        if enrolment.mark is not None:
            with findings.at(place):
                _check_plan(enrolment.mark.plan(), findings, place)
    return f"trainers: {view.run.segments}, keys " + (
        "allowed by the job" if allowed is not None else "not restricted by the job"
    )


def check_tickets(view: LedgerView, findings: Findings) -> str:
    """Check the owner's orders against the run statement and the ledger before them."""
    bounds = view.run.stage_bounds
    nonces: set[str] = set()
    data_order = ""
    for place, entry, ticket in view.all_of(Ticket):
        with findings.at(place):
            require_signatures(entry.envelope, [view.owner])
        steps = (ticket.first_step, ticket.last_step)
        findings.expect(place, "the range of steps", steps, bounds[place.stage : place.stage + 2])
        findings.expect(place, "the job's digest", ticket.job_digest, view.run.job_digest)
        if ticket.nonce in nonces:
            findings.problem(place, "its nonce was used before")
        nonces.add(ticket.nonce)
        if place.segment == 1:
            data_order = ticket.data_order
        findings.expect(place, "the order of the data", ticket.data_order, data_order)
        expect_head(view, findings, place, ticket.ledger, view.order.size_before_stage(place.stage))
    return f"tickets: {len(nonces)}"


def check_handoffs(view: LedgerView, findings: Findings) -> str:
    """Check that both ends signed, and that gradients went only where they may."""
    count = 0
    for place, entry, handoff in view.all_of(Handoff):
        count += 1
        with findings.at(place):
            ends = [view.key(handoff.boundary), view.key(handoff.boundary + 1)]
            require_signatures(entry.envelope, ends)
        among_trainers = handoff.boundary > 0
        # Later on trainer 1 may have everything in its cache.
        if not handoff.forward.messages and (among_trainers or handoff.stage == 0):
            findings.problem(place, "nothing went forward")
        back = handoff.backward.messages
        if back and not among_trainers:
            findings.problem(place, f"{back} messages went back to the owner")
        elif among_trainers and bool(back) != (view.run.coupling == "backprop"):
            findings.problem(place, f"{back} messages went back in a {view.run.coupling} run")
    return f"hand-offs: {count}"


def check_proofs(view: LedgerView, findings: Findings) -> str:
    """Check signatures, tickets and amounts of work."""
    count = samples = moved = 0
    enrolled = {
        enrolment.segment: environment_digest(enrolment.environment).hex
        for _, _, enrolment in view.all_of(Enrolment)
    }
    for place, entry, proof in view.all_of(StageProof):
        count += 1
        moved += proof.environment != enrolled[place.segment]
        with findings.at(place):
            require_signatures(entry.envelope, [view.key(place.segment)])
        ticket = view.need("ticket", place.stage, place.segment)
        findings.expect(place, "the ticket", proof.ticket, ticket.digest)
        first, last = view.run.stage_bounds[place.stage : place.stage + 2]
        findings.expect(place, "the number of steps", proof.steps, last - first)
        if place.segment == 1:
            samples = proof.samples
        findings.expect(place, "the number of samples", proof.samples, samples)
    # A requeued job may run elsewhere: worth saying, nothing wrong.
    return f"proofs: {count}, in another environment than enrolled: {moved}"


def check_chain_in_time(view: LedgerView, findings: Findings) -> str:
    """Check that every proof continues the one before it."""
    for place, _, proof in view.all_of(StageProof):
        before = view.before(place.stage, place.segment)
        findings.expect(place, "the proof before it", proof.previous, before.digest)
        if isinstance(before.statement, StageProof):
            ended = before.statement
            findings.expect(place, "the weights at start", proof.weights_in, ended.weights_out)
            findings.expect(
                place, "the optimizer at start", proof.optimizer_in, ended.optimizer_out
            )
        else:
            initial = view.run.initial_weights[place.segment - 1]
            findings.expect(place, "the weights at start", proof.weights_in, initial)
    return f"chains: {view.run.segments}, stages: {view.run.stages}"


def check_chain_across_trainers(view: LedgerView, findings: Findings) -> str:
    """Check that every proof builds on its neighbours'."""
    for place, _, proof in view.all_of(StageProof):
        entering = view.need("handoff", place.stage, place.segment - 1).payload
        if place.segment == 1:
            upstream = entering
        else:
            upstream = view.need("stage", place.stage, place.segment - 1).digest
        leaving = None
        if place.segment < view.run.segments:
            leaving = view.need("handoff", place.stage, place.segment).payload
        findings.expect(place, "the proof upstream", proof.upstream, upstream)
        findings.expect(place, "the hand-off in", proof.handoff_in, entering)
        findings.expect(place, "the hand-off out", proof.handoff_out, leaving)
    return f"segments: {view.run.segments}, stages: {view.run.stages}"


def _check_plan(plan: MarkPlan, findings: Findings, place: Place) -> None:
    if plan.least_statistic < LEAST_STATISTIC:
        findings.problem(
            place,
            f"its mark is planned to read {plan.least_statistic:.2f}, below {LEAST_STATISTIC}",
        )


def expect_head(
    view: LedgerView, findings: Findings, place: Place, head: TreeHead, size: int
) -> None:
    """Compare the ledger head that a statement of the owner names with the tree."""
    findings.expect(place, "the size of the ledger before it", head.size, size)
    findings.expect(place, "the root of the ledger before it", head.root, view.root_at(size))
