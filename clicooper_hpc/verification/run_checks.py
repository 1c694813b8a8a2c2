"""Verification of a run: one numbered list of checks, each with a sentence that says what holds.

 1. Entries: the ledger is there, whatever the job says, and every entry is a signed envelope around
    a statement of a known kind, both in canonical form.
 2. Run statement: the owner alone signed it, and it names this run, this job and this privacy card.
 3. Order: every entry belongs to this run and stands where the fixed order puts it.
 4. Checkpoints: after the enrolments, every stage and the delivery the owner signed the size and
    the root of the Merkle tree over the entries.
 5. Completeness: the ledger ends with the delivery, every trainer cosigned the checkpoint behind
    it, and the run says that it is complete.
 6. Enrolments: every trainer signed up for this run statement with a key the job allows, and the
    marks are planned strong enough.
 7. Tickets: the owner signed every order to train; it names its range of steps, the job, the order
    of the data and the number of samples, the ledger before it, and a nonce used once.
 8. Hand-offs: both ends of every boundary signed the same record of messages; between trainers
    activations went forward and, unless the run is one-way, gradients back; nothing went back to
    the owner.
 9. Proofs: the trainer of its segment signed every proof; it answers its ticket and counts the
    ordered steps and samples.
10. Chain in time: every proof names the one before it and starts from the weights and the optimizer
    state that one ended with, the first from the initial weights.
11. Chain across trainers: every proof names the proof of the segment before it and the hand-offs on
    both its sides.
12. Marks: every mark is keyed with the chain value of all that came before it and its enrolled key,
    and its trainer read it back beyond chance.
13. Delivery: the owner signed what it received: the weights of the last proofs, which the delivered
    files hold, and nothing else.
14. Checkpoint files: every state that was kept is the one its proof names, and nothing else is in
    its file.
15. Metric tables: the rows every rank wrote are the ones it signed.
16. Trainers' view: every ledger head a trainer stored on its own is a beginning of this ledger,
    signed by the owner; nobody kept the owner's signature under another, or two proofs of one stage
    and start.
17. Pinned keys: owner and trainers hold the keys you gave.
18. Messages: the message digests every trainer stored are, in number and root, those of the signed
    hand-offs.
19. HDF5 files: run.h5 and the files of the ranks hold the tables, views, links and attributes of a
    run and nothing else, all under their names, units and scales.

A check that fails says where and why. A check that builds on a failed one is not run. What holds
here is who signed what, when in the order, about which bytes; that the training was really done is
the audit's matter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from clicooper_hpc.verification.checks.check_list import CHECKS, Check
from clicooper_hpc.verification.evidence import Evidence
from clicooper_hpc.verification.ledger_view import Findings, LedgerView, NotApplicableError

__all__ = ["CHECKS", "CheckResult", "has_failed_checks", "run_checks", "run_checks_on"]


@dataclass(frozen=True, slots=True)
class CheckResult:
    """Outcome of one check. ``passed`` is None when it did not apply or was not run.

    ``segments`` are those whose trainers' own statements failed it.
    """

    number: int
    title: str
    passed: bool | None
    detail: str
    segments: tuple[int, ...] = ()


def run_checks(evidence: Evidence) -> list[CheckResult]:
    """Run all checks, in order. Bad evidence fails checks; it raises nothing."""
    return run_checks_on(LedgerView(evidence))


def run_checks_on(view: LedgerView) -> list[CheckResult]:
    """Do what `run_checks` does; ``view`` has what the checks established."""
    results: list[CheckResult] = []
    for number, check in enumerate(CHECKS, 1):
        blocking = [need for need in check.needs if results[need - 1].passed is not True]
        if blocking:
            # The first check that failed, not one that was itself not run for that reason.
            cause = _check_cause(results, blocking[0])
            results.append(CheckResult(number, check.title, None, f"not run: check {cause} failed"))
        else:
            results.append(_check_result(number, check, view))
    return results


def has_failed_checks(results: Sequence[CheckResult]) -> bool:
    """Return whether any check failed."""
    return any(result.passed is False for result in results)


def _check_result(number: int, check: Check, view: LedgerView) -> CheckResult:
    findings = Findings()
    detail = ""
    try:
        # Whatever is damaged fails a check: a verifier that raises can be made to say nothing.
        with findings.at("evidence"):
            detail = check.run(view, findings)
    except NotApplicableError as reason:
        return CheckResult(number, check.title, None, f"not applicable: {reason}")
    if findings:
        return CheckResult(
            number, check.title, False, findings.text(), tuple(sorted(findings.segments))
        )
    return CheckResult(number, check.title, True, detail)


def _check_cause(results: Sequence[CheckResult], number: int) -> int:
    """Follow "not run" back to the check that failed."""
    while results[number - 1].passed is None:
        needs = CHECKS[number - 1].needs
        number = next(need for need in needs if results[need - 1].passed is not True)
    return number
