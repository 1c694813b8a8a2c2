"""Check of the marks as far as the ledger tells of them: how they are keyed and how they read."""

from __future__ import annotations

import math
from typing import Final

from clicooper_hpc.provenance.proof_rules import mark_chain_of
from clicooper_hpc.provenance.statements import Enrolment, StageProof
from clicooper_hpc.verification.ledger_view import Findings, LedgerView, NotApplicableError

__all__ = ["check_marks"]

#: exp(-T**2 / 2) = 2**-64: a mark read back with less than this could be chance (Hoeffding).
_LEAST_STATISTIC: Final = 9.42


def check_marks(view: LedgerView, findings: Findings) -> str:
    """Compute the chain values again and look at what the trainers read back."""
    enrolled = {enrolment.segment: enrolment.mark for _, _, enrolment in view.all_of(Enrolment)}
    count = 0
    weakest = math.inf
    for place, _, proof in view.all_of(StageProof):
        if (proof.mark is None) != (enrolled[place.segment] is None):
            what = "it has no mark" if proof.mark is None else "it claims a mark never enrolled"
            findings.problem(place, what)
        if proof.mark is None:
            continue
        count += 1
        chain = mark_chain_of(
            view.digest_of,
            place.stage,
            place.segment,
            weights=proof.weights_in,
            public_key=view.key(place.segment).raw,
        )
        findings.expect(place, "the chain value", proof.mark.chain, chain.hex)
        findings.expect(place, "the index of the mark key", proof.mark.leaf_index, place.stage)
        statistic = float(proof.mark.statistic)
        weakest = min(weakest, statistic)
        if statistic < _LEAST_STATISTIC:
            findings.problem(place, f"its mark reads {statistic:.2f}, below {_LEAST_STATISTIC}")
        if proof.mark.errors:
            findings.problem(place, f"its mark was read with {proof.mark.errors} wrong bits")
    if not any(enrolled.values()) and not findings:
        raise NotApplicableError("no segment carries a mark")
    bare = sum(mark is None for mark in enrolled.values())
    claimed = f", weakest statistic claimed: {weakest:.2f}" if count else ""
    return f"marks: {count}, segments without: {bare}{claimed}; reading one takes its key"
