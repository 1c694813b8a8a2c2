"""`clicooper audit`: train stages again, compare, report; without MPI, from the owner's files.

What only this shows: that the work was done. Signatures and marks say who, in which order.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from clicooper_hpc.audit.auditor import StageAuditor
from clicooper_hpc.audit.challenge import challenge_detection_probability, draw_challenge
from clicooper_hpc.audit.verdict import StageFault, StageVerdict
from clicooper_hpc.errors import EnvironmentUnfitError, ExitCode, UsageError
from clicooper_hpc.owner.secrets import OwnerSecrets
from clicooper_hpc.printable import printable_json
from clicooper_hpc.progress.progress_line import ProgressLine
from clicooper_hpc.runstore.private_folder import PrivateFolder
from clicooper_hpc.runstore.whole_run import open_whole_run
from clicooper_hpc.verification.report_forms import read_public_key

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
    exact: bool,
    as_json: bool,
    quiet: bool = False,
) -> tuple[str, ExitCode]:
    """Audit ``stages`` of the run in ``path``, or ``sample`` of them drawn by chance.

    States are compared to the bit, or within ``tolerance`` if one is given. What a trainer stated
    of its processor, libraries or threads is its own word: where it departs here, that is a reason
    to withhold the verdict on it, unless ``exact`` says that the bits are to count whatever was
    stated. With ``segment`` the exit code speaks of that trainer alone.
    ``owner_key``: as `clicooper verify --owner-key`; ``quiet``: show no progress.

    Raises
    ------
    EnvironmentUnfitError
        Neither is given, and no trainer at all stated what there is here.
    """
    if bool(stages) == (sample is not None):
        raise UsageError(
            "it is not said which stages to audit, or twice",
            remedy="Give either --stage S or --sample Q.",
        )
    if tolerance is not None and not 0 < tolerance < 1:
        raise UsageError(f"{tolerance} is not between 0 and 1", where="--tolerance")
    if tolerance is not None and exact:
        raise UsageError(
            "to the bit and within a tolerance are two audits",
            remedy="Give either --exact or --tolerance X.",
        )
    with ProgressLine("audit: checking the proofs and files of the run", quiet=quiet):
        auditor = StageAuditor(
            open_whole_run(path),
            owner_key=None if owner_key is None else read_public_key(owner_key),
        )
    _check_audit_options(auditor, stages, sample, segment)
    other = auditor.other_conditions()
    # Before anything is trained. If only some say so, the others' bits can still be repeated.
    if len(other) == auditor.view.run.segments and tolerance is None and not exact:
        words = "; ".join(f"segment {one}: {what}" for one, what in list(other.items())[:3])
        raise EnvironmentUnfitError(
            f"no trainer stated that it ran on what there is here: {words}",
            where="audit",
            remedy="Audit on a machine like that of the run, give --tolerance 0.02, or --exact to "
            "compare the bits whatever they stated.",
        )
    # A stage named twice is trained once; the order given is kept.
    chosen = (
        list(dict.fromkeys(stages)) if sample is None else _draw_audited_stages(auditor, sample)
    )
    audited = _audit_stages(auditor, chosen, tolerance, exact, quiet=quiet)
    failed = any(_audit_failed(one.verdict, segment) for one in audited)
    failed = failed or any(_counts_against(note, segment) for note in auditor.notes)
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
    if any(_counts_against(note, segment) for note in verdict.notes):
        return True
    # Who could not be judged did not pass.
    outcome = verdict.outcome if segment is None else verdict.outcome_of(segment)
    return not outcome.passed


def _counts_against(note: StageFault, segment: int | None) -> bool:
    """Whether something false decides the exit code: of all, or of one trainer alone."""
    return segment is None or note.rank == segment


def _draw_audited_stages(auditor: StageAuditor, count: int) -> list[int]:
    key = (
        OwnerSecrets(PrivateFolder(auditor.private))
        .secret_master_key(auditor.job)
        .derive_key("audit-challenge")
    )
    return draw_challenge(
        key, bytes.fromhex(auditor.view.root_at(auditor.view.size)), auditor.stages, count
    )


def _audit_stages(
    auditor: StageAuditor,
    stages: Sequence[int],
    tolerance: float | None,
    exact: bool,
    *,
    quiet: bool,
) -> list[_AuditedStage]:
    # Stage bounds as signed, not as the job would give them.
    bounds = auditor.view.run.stage_bounds
    steps = sum(bounds[stage + 1] - bounds[stage] for stage in stages)
    audited = []
    with ProgressLine("steps trained again:", steps, quiet=quiet) as progress:
        for number, stage in enumerate(stages, start=1):
            progress.note = (f"stage {stage}, {number} of {len(stages)}",)
            audited.append(_audit_one_stage(auditor, stage, tolerance, exact, progress.advance))
    return audited


def _audit_one_stage(
    auditor: StageAuditor,
    stage: int,
    tolerance: float | None,
    exact: bool,
    on_step: Callable[[], None],
) -> _AuditedStage:
    begun = time.perf_counter()
    verdict = auditor.audit_stage(
        stage, tolerance=tolerance, ignores_conditions=exact, on_step=on_step
    )
    bounds = auditor.view.run.stage_bounds
    seconds = time.perf_counter() - begun
    return _AuditedStage(stage, bounds[stage], bounds[stage + 1], verdict, seconds)


def _report_text(
    auditor: StageAuditor, audited: Sequence[_AuditedStage], other: Mapping[int, str]
) -> str:
    lines = [f"stated by the trainer of segment {one}: {words}" for one, words in other.items()]
    lines += [f"false, whatever the training: {note}" for note in auditor.notes]
    for one in audited:
        head, *rest = one.verdict.lines()
        lines.append(f"stage {one.stage} (steps {one.first} to {one.last - 1})  {head}")
        lines += rest
    # The price beside the result: what share of the run was trained again.
    steps = auditor.trained_steps
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
    auditor: StageAuditor, audited: Sequence[_AuditedStage], other: Mapping[int, str]
) -> str:
    segments = range(1, auditor.view.run.segments + 1)
    return printable_json(
        {
            "stated_conditions": {str(one): words for one, words in other.items()},
            "false_statements": _faults_json(auditor.notes),
            "stages": [
                {
                    "stage": one.stage,
                    "outcome": one.verdict.outcome.value,
                    "detail": one.verdict.detail,
                    "segments": {
                        str(segment): one.verdict.outcome_of(segment).value for segment in segments
                    },
                    "findings": _faults_json(one.verdict.faults),
                    "withheld": _faults_json(one.verdict.withheld),
                    "false_statements": _faults_json(one.verdict.notes),
                    "unjudged": list(one.verdict.unjudged),
                }
                for one in audited
            ],
            "stages_of_run": auditor.stages,
        }
    )


def _faults_json(faults: Sequence[StageFault]) -> list[dict[str, object]]:
    return [{"rank": fault.rank, "what": fault.what} for fault in faults]
