"""What trainers send the owner at the end of a stage, held against every rule `verify` knows of it.

What passes here passes the checks of hand-offs, proofs, chains and marks of `clicooper verify`:
both ask `provenance/proof_rules.py`, with all that the ledger knows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from clicooper_hpc.errors import EvidenceError
from clicooper_hpc.owner.ledger_writer import LedgerWriter
from clicooper_hpc.provenance.envelope import Envelope, require_envelope_signatures
from clicooper_hpc.provenance.equivocation import Equivocation
from clicooper_hpc.provenance.identity import PublicIdentity
from clicooper_hpc.provenance.ledger_order import EntryId, ledger_entry_before
from clicooper_hpc.provenance.proof_rules import (
    StageFacts,
    expected_proof,
    handoff_problems,
    mark_problems,
    proof_differences,
    proof_state_before,
)
from clicooper_hpc.provenance.statements import (
    Enrolment,
    Handoff,
    RunStatement,
    StageProof,
    Ticket,
    parse_signed_statement,
    parse_statement,
)

__all__ = ["EquivocationError", "StageEvidence", "refuse_problems"]


class EquivocationError(EvidenceError):
    """A trainer signed two proofs of one stage; ``evidence`` shows it to anybody."""

    def __init__(self, what: str, *, where: str, evidence: Equivocation) -> None:
        super().__init__(what, where=where)
        self.evidence = evidence


@dataclass(frozen=True, slots=True)
class StageEvidence:
    """What the trainers sent of a stage, in segment order.

    ``handoffs`` before every segment, its proof, and in ``upstream`` the proof of the segment
    before as that trainer was sent it. ``start`` is this start of the run (64 hex digits).
    """

    stage: int
    start: str
    handoffs: Sequence[Envelope]
    proofs: Sequence[Envelope]
    upstream: Sequence[Envelope | None]

    def check_stage(
        self,
        run: RunStatement,
        ledger: LedgerWriter,
        keys: Sequence[PublicIdentity],
        *,
        samples: int,
    ) -> None:
        """Refuse the stage unless all of it may enter ``ledger``.

        Parameters
        ----------
        keys
            Of all ranks, owner first.
        samples
            Released samples that the steps of the stage used, as the owner counted them.

        Raises
        ------
        EvidenceError
            Naming the first statement that breaks a rule; `EquivocationError` if a trainer sent the
            next one another proof than the owner.
        """
        for segment in range(1, run.segments + 1):
            self._check_handoff(run, keys, segment - 1)
            self._check_proof(run, ledger, keys, segment, samples)

    def entries(self) -> Iterator[Envelope]:
        """Yield the entries of the ledger that this becomes, in its order."""
        yield from self.handoffs
        yield from self.proofs

    def _check_handoff(
        self, run: RunStatement, keys: Sequence[PublicIdentity], boundary: int
    ) -> None:
        where = str(EntryId("handoff", self.stage, boundary))
        handoff = self.handoffs[boundary]
        # Both ends sign: the record of a boundary counts only if neither disputes it.
        require_envelope_signatures(handoff, [keys[boundary], keys[boundary + 1]], where=where)
        # Two neighbours that agree can sign anything, and what is no record could never be read.
        statement = parse_statement(handoff.payload, where=where)
        if not isinstance(statement, Handoff):
            raise EvidenceError(f"is no {Handoff.kind} statement", where=where)
        found = (statement.run_id, statement.stage, statement.boundary)
        if found != (run.run_id, self.stage, boundary):
            raise EvidenceError("is a hand-off of something else", where=where)
        refuse_problems(where, handoff_problems(run, statement))

    def _check_proof(
        self,
        run: RunStatement,
        ledger: LedgerWriter,
        keys: Sequence[PublicIdentity],
        segment: int,
        samples: int,
    ) -> None:
        where = str(EntryId("stage", self.stage, segment))
        key = keys[segment]
        content = self.proofs[segment - 1].to_bytes()
        _, proof = parse_signed_statement(content, StageProof, key, where=where)
        self._check_upstream(run, keys[segment - 1], segment, proof)
        digest_of = ledger.ledger.digest_of
        ticket_id = EntryId("ticket", self.stage, segment)
        ticket = ledger.read_entry(Ticket, ticket_id)
        # The plan was signed before the stage; this was counted step by step as it ran.
        if ticket.samples != samples:
            raise EvidenceError(
                f"it orders {ticket.samples} samples; {samples} were used", where=str(ticket_id)
            )
        last = ledger.read_statement(ledger_entry_before(self.stage, segment))
        weights, optimizer = proof_state_before(run, segment, last)
        behind = self.handoffs[segment : segment + 1]
        facts = StageFacts(
            entering=self.handoffs[segment - 1].payload_digest().hex,
            leaving=behind[0].payload_digest().hex if behind else None,
            proof_before=self.proofs[segment - 2].digest().hex if segment > 1 else None,
            start_weights=weights,
            start_optimizer=optimizer,
            run_start=self.start,
        )
        expected = expected_proof(run, ticket, facts, digest_of)
        for difference in proof_differences(proof, expected):
            raise EvidenceError(f"its {difference.field} is not what it must be", where=where)
        enrolled = ledger.read_entry(Enrolment, EntryId("enrolment", 0, segment)).mark
        problems = mark_problems(proof, enrolled, digest_of, weights=weights, public_key=key.raw)
        refuse_problems(where, problems)

    def _check_upstream(
        self, run: RunStatement, key: PublicIdentity, segment: int, proof: StageProof
    ) -> None:
        """Decide who lies if a trainer names another proof of the one before than the owner got.

        ``key`` is that of the one before. What only it can have signed, in this very start, is its
        doing; whatever else a trainer presents, it should never have accepted.
        """
        where = str(EntryId("stage", self.stage, segment))
        presented, before = self.upstream[segment - 1], segment - 1
        if before == 0:
            # The owner, which has no proof.
            if presented is not None:
                raise EvidenceError("comes with a proof of nobody before it", where=where)
            return
        if presented is None:
            raise EvidenceError("comes without the proof it builds on", where=where)
        false = f"it comes with what is no proof of rank {before} of this stage and start"
        try:
            content = presented.to_bytes()
            _, theirs = parse_signed_statement(content, StageProof, key, where=where)
        except EvidenceError as error:
            raise EvidenceError(f"{false} ({error.what})", where=where) from error
        place = (theirs.run_id, theirs.stage, theirs.segment, theirs.start)
        # An old one is signed as validly: after a kill honest trainers prove a stage again.
        if place != (run.run_id, self.stage, before, self.start):
            raise EvidenceError(false, where=where)
        if proof.upstream != presented.digest().hex:
            raise EvidenceError("its upstream is not the proof it comes with", where=where)
        other = self.proofs[before - 1]
        if presented.digest() != other.digest():
            raise EquivocationError(
                f"rank {before} signed two, this one and one for its neighbour",
                where=str(EntryId("stage", self.stage, before)),
                evidence=Equivocation.of_proofs(other, presented),
            )


def refuse_problems(where: str, problems: Iterable[str]) -> None:
    """Raise `EvidenceError` for the first of ``problems``, if there is one."""
    for problem in problems:
        raise EvidenceError(problem, where=where)
