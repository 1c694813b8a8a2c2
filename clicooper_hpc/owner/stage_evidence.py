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

__all__ = ["StageEvidence", "refuse_problems"]


@dataclass(frozen=True, slots=True)
class StageEvidence:
    """Hand-off before every segment, and its proof, as the trainers sent them; in segment order."""

    stage: int
    handoffs: Sequence[Envelope]
    proofs: Sequence[Envelope]

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
            Naming the first statement that breaks a rule.
        """
        for segment in range(1, run.segments + 1):
            self._check_handoff(run, keys, segment - 1)
            self._check_proof(run, ledger, keys[segment], segment, samples)

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
        key: PublicIdentity,
        segment: int,
        samples: int,
    ) -> None:
        where = str(EntryId("stage", self.stage, segment))
        content = self.proofs[segment - 1].to_bytes()
        _, proof = parse_signed_statement(content, StageProof, key, where=where)
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
        )
        expected = expected_proof(run, ticket, facts, digest_of)
        for difference in proof_differences(proof, expected):
            raise EvidenceError(
                f"its {difference.field} is not what it must be",
                where=where,
                # One trainer alone may have sent its neighbour another proof than the owner.
                remedy=f"Either rank {segment} names a proof it was not sent, or rank "
                f"{segment - 1} signed two."
                if difference.field == "upstream" and segment > 1
                else None,
            )
        enrolled = ledger.read_entry(Enrolment, EntryId("enrolment", 0, segment)).mark
        problems = mark_problems(proof, enrolled, digest_of, weights=weights, public_key=key.raw)
        refuse_problems(where, problems)


def refuse_problems(where: str, problems: Iterable[str]) -> None:
    """Raise `EvidenceError` for the first of ``problems``, if there is one."""
    for problem in problems:
        raise EvidenceError(problem, where=where)
