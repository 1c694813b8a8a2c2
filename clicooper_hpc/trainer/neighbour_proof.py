"""What a trainer holds against the proof of the rank before, before it builds on it."""

from __future__ import annotations

from typing import Final

from clicooper_hpc.errors import EvidenceError
from clicooper_hpc.provenance.envelope import Envelope
from clicooper_hpc.provenance.ledger_order import EntryId, ledger_entry_before
from clicooper_hpc.provenance.ledger_replica import LedgerReplica
from clicooper_hpc.provenance.proof_rules import (
    StageFacts,
    expected_proof,
    proof_differences,
    proof_state_before,
)
from clicooper_hpc.provenance.statements import RunStatement, StageProof, Ticket

__all__ = ["check_neighbour_proof"]

#: What a neighbour's proof says of the owner's ledger, as this rank was sent it.
_LEDGER_FIELDS: Final = {"ticket", "samples", "previous", "weights_in", "optimizer_in"}


def check_neighbour_proof(
    proof: StageProof,
    handoff: Envelope,
    run: RunStatement,
    ledger: LedgerReplica,
    *,
    start: str,
) -> None:
    """Hold the proof of the segment before against the rules, as far as the next trainer can.

    All that the owner asks of a proof presented to it is among them: what is accepted here, this
    rank can present without being taken for a liar.

    Parameters
    ----------
    handoff
        The hand-off between the two, that came with the proof.
    ledger
        This rank's copy.
    start
        This start of the run (64 hex digits).

    Raises
    ------
    EvidenceError
        A field is not what it must be.
    """
    where = f"proof of rank {proof.segment}, stage {proof.stage}"
    ticket = ledger.read_entry(EntryId("ticket", proof.stage, proof.segment))
    if not isinstance(ticket, Ticket):
        raise EvidenceError("answers no ticket", where=where)
    last = ledger.read_entry(ledger_entry_before(proof.stage, proof.segment))
    weights, optimizer = proof_state_before(run, proof.segment, last)
    facts = StageFacts(
        leaving=handoff.payload_digest().hex,
        start_weights=weights,
        start_optimizer=optimizer,
        run_start=start,
    )
    expected = expected_proof(run, ticket, facts, ledger.digest_of)
    for difference in proof_differences(proof, expected):
        raise EvidenceError(
            f"its {difference.field} is not what it must be",
            where=where,
            remedy=f"Either rank {proof.segment} lies, or rank 0 sent it another ledger."
            if difference.field in _LEDGER_FIELDS
            else None,
        )
