"""`clicooper audit`: train stages again, compare, report; without MPI, from the owner's files.

What only this shows: that the work was done. Signatures and marks say who, in which order.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from clicooper_hpc.audit.auditor import StageAuditor
from clicooper_hpc.audit.challenge import challenge_detection_probability, draw_challenge
from clicooper_hpc.audit.tolerance import tolerance_verdict
from clicooper_hpc.audit.verdict import StageOutcome, StageVerdict, exact_verdict
from clicooper_hpc.errors import EnvironmentUnfitError, ExitCode, UsageError
from clicooper_hpc.owner.secrets import OwnerSecrets
from clicooper_hpc.printable import printable_json
from clicooper_hpc.runstore.private_folder import PrivateFolder
from clicooper_hpc.runstore.reader import open_run
from clicooper_hpc.verification.verification_report import read_public_key

__all__ = ["report_audit"]


@dataclass(frozen=True, slots=True)
class _AuditedStage:
    stage: int
    first: int
    last: int
    verdict: StageVerdict
    seconds: float


def report_audit(
    path: Path,
    *,
    stages: Sequence[int],
    sample: int | None,
    segment: int | None,
    tolerance: float | None,
    owner_key: str | None = None,
    as_json: bool,
) -> tuple[str, ExitCode]:
    """Audit ``stages`` of the run in ``path``, or ``sample`` of them drawn by chance.

    States are compared to the bit, or within ``tolerance`` if one is given. With ``segment`` the
    exit code speaks of that trainer alone. ``owner_key``: as `clicooper verify --owner-key`.

    Raises
    ------
    EnvironmentUnfitError
        No tolerance is given, and processor, libraries or threads are not those of the run.
    """
    if bool(stages) == (sample is not None):
        raise UsageError(
            "it is not said which stages to audit, or twice",
            remedy="Give either --stage S or --sample Q.",
        )
    if tolerance is not None and not 0 < tolerance < 1:
        raise UsageError(f"{tolerance} is not between 0 and 1", where="--tolerance")
    auditor = StageAuditor(
        open_run(path), owner_key=None if owner_key is None else read_public_key(owner_key)
    )
    _check_audit_options(auditor, stages, sample, segment)
    # Before anything is trained: elsewhere an honest run would FAIL to the bit.
    other = auditor.other_conditions()
    if other and tolerance is None:
        raise EnvironmentUnfitError(
            f"an honest run would not be equal to the bit here: {'; '.join(other[:3])}",
            where="audit",
            remedy="Audit on a machine like that of the run, or give --tolerance 0.02",
        )
    # A stage named twice is trained once; the order given is kept.
    chosen = (
        list(dict.fromkeys(stages)) if sample is None else _draw_audited_stages(auditor, sample)
    )
    audited = [_audit_one_stage(auditor, stage, tolerance) for stage in chosen]
    failed = any(_audit_failed(one.verdict, segment) for one in audited)
    text = (_report_json if as_json else _report_text)(auditor, audited, other)
    return text, ExitCode.VERIFICATION if failed else ExitCode.DONE


def _check_audit_options(
    auditor: StageAuditor, stages: Sequence[int], sample: int | None, segment: int | None
) -> None:
    segments = auditor.view.run.segments
    outside = [stage for stage in stages if not 0 <= stage < auditor.stages]
    if outside or (sample is not None and not 1 <= sample <= auditor.stages):
        raise UsageError(
            f"the run has {auditor.stages} stages, 0 to {auditor.stages - 1}",
            where=f"--stage {outside[0]}" if outside else f"--sample {sample}",
        )
    if segment is not None and not 1 <= segment <= segments:
        raise UsageError(f"the run has {segments} segments, from 1", where=f"--segment {segment}")


def _audit_failed(verdict: StageVerdict, segment: int | None) -> bool:
    if verdict.outcome is not StageOutcome.FAIL:
        return False
    # Who could not be judged did not pass.
    return segment is None or segment in (*verdict.at_fault, *verdict.unjudged)


def _draw_audited_stages(auditor: StageAuditor, count: int) -> list[int]:
    key = (
        OwnerSecrets(PrivateFolder(auditor.private))
        .secret_master_key(auditor.job)
        .derive_key("audit-challenge")
    )
    return draw_challenge(
        key, bytes.fromhex(auditor.view.root_at(auditor.view.size)), auditor.stages, count
    )


def _audit_one_stage(auditor: StageAuditor, stage: int, tolerance: float | None) -> _AuditedStage:
    begun = time.perf_counter()
    found = auditor.audit_stage(stage)
    if tolerance is None:
        verdict = exact_verdict(found.replay, found.claim)
    else:
        verdict = tolerance_verdict(found.replay, found.claim, found.starts, tolerance)
    # Stage bounds as signed, not as the job would give them.
    bounds = auditor.view.run.stage_bounds
    seconds = time.perf_counter() - begun
    return _AuditedStage(stage, bounds[stage], bounds[stage + 1], verdict, seconds)


def _report_text(
    auditor: StageAuditor, audited: Sequence[_AuditedStage], other: Sequence[str]
) -> str:
    lines = []
    if other:
        lines.append(f"other conditions than in the run: {'; '.join(other[:3])}")
        lines += [f"  and {len(other) - 3} more differences"] if len(other) > 3 else []
    for one in audited:
        head, *rest = one.verdict.lines()
        lines.append(f"stage {one.stage} (steps {one.first} to {one.last - 1})  {head}")
        lines += rest
    # The price beside the result: what share of the run was trained again.
    steps = sum(one.last - one.first for one in audited)
    total = auditor.view.run.total_steps
    lines.append(
        f"cost: {steps} of {total} steps of all segments trained again ({100 * steps / total:.1f} "
        f"%), {sum(one.seconds for one in audited):.1f} s"
    )
    lines.append(
        f"audited: {len(audited)} of {auditor.stages} stages; {_report_chances(auditor, audited)}"
    )
    return "\n".join(lines)


def _report_chances(auditor: StageAuditor, audited: Sequence[_AuditedStage]) -> str:
    """Say what drawing so many stages by chance is worth."""
    some = sorted({1, max(1, auditor.stages // 10), max(1, auditor.stages // 2)})
    chances = ", ".join(
        f"{bad} bad: {challenge_detection_probability(bad, auditor.stages, len(audited)):.2f}"
        for bad in some
    )
    return f"drawn by chance, so many hit a bad one with probability ({chances})"


def _report_json(
    auditor: StageAuditor, audited: Sequence[_AuditedStage], other: Sequence[str]
) -> str:
    return printable_json(
        {
            "other_conditions": list(other),
            "stages": [
                {
                    "stage": one.stage,
                    "outcome": one.verdict.outcome.value,
                    "detail": one.verdict.detail,
                    "findings": [
                        {"rank": fault.rank, "what": fault.what} for fault in one.verdict.faults
                    ],
                    "unjudged": list(one.verdict.unjudged),
                }
                for one in audited
            ],
            "stages_of_run": auditor.stages,
        }
    )
