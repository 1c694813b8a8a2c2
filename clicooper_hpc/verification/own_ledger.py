"""A trainer's verification of its own copy of the finished ledger, before it cosigns the end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from clicooper_hpc.errors import EvidenceError
from clicooper_hpc.verification.checks.check_list import CHECKS
from clicooper_hpc.verification.evidence import Evidence
from clicooper_hpc.verification.ledger_view import Findings, LedgerView, NotApplicableError

__all__ = ["verify_own_ledger"]

#: Checks that look at nothing but entries; the trainer compared 2 with what it knew at the start,
#: 4 with every update, and 5 is what it is about to sign.
_OF_ENTRIES: Final = (1, 2, 3, 6, 7, 8, 9, 10, 11, 12, 13)
_COMPARED_BEFORE: Final = 2


def verify_own_ledger(entries: Sequence[bytes], run_id: str, *, marks: bool | None) -> None:
    """Refuse a finished ledger that no `clicooper verify` would pass, whoever lied in it.

    Parameters
    ----------
    entries
        All entries, the delivery last.
    marks
        Whether the job asks for marks in all segments; None if it leaves that open.

    Raises
    ------
    EvidenceError
        Naming the check that fails.
    """
    view = LedgerView(
        Evidence(
            entries=entries,
            checkpoints=(),
            status="complete",
            run_id=run_id,
            job_text="",
            job_digest="",
            card_digest="",
            marks=marks,
        )
    )
    for number in _OF_ENTRIES:
        check, findings = CHECKS[number - 1], Findings()
        try:
            with findings.at("ledger"):
                check.run(view, findings)
        except NotApplicableError:
            continue
        if findings and number != _COMPARED_BEFORE:
            raise EvidenceError(
                f"check {number} ({check.title}) failed: {findings.text()}",
                where="the finished ledger",
                remedy="It is not cosigned: nobody could verify this run.",
            )
