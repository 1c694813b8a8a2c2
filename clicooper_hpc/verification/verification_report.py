"""Report of `clicooper verify` on a run folder; needs no MPI, no GPU, no secrets."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from clicooper_hpc.errors import ExitCode, UsageError
from clicooper_hpc.printable import printable_text
from clicooper_hpc.runstore.whole_run import open_whole_run
from clicooper_hpc.verification.export import export_proofs
from clicooper_hpc.verification.marks.search import search_marks
from clicooper_hpc.verification.report_forms import (
    read_public_key,
    report_as_json,
    report_as_text,
)
from clicooper_hpc.verification.run_chain import follow_run_chain
from clicooper_hpc.verification.run_checks import has_failed_checks, run_checks
from clicooper_hpc.verification.run_evidence import collect_run_evidence
from clicooper_hpc.verification.uncovered import uncovered_parts

__all__ = ["verification_report"]


def verification_report(
    path: Path,
    *,
    owner_key: str | None,
    trainer_keys: Sequence[str],
    mark_keys: Sequence[Path],
    segment_file: Path | None,
    export: Path | None = None,
    front_runs: Sequence[Path] = (),
    as_json: bool,
) -> tuple[str, ExitCode]:
    """Verify the run in ``path`` and return the report and the exit code.

    ``mark_keys`` are openings written by `clicooper keys open-mark`; their marks are read from the
    delivered segments, or from ``segment_file``. ``export`` gets the proofs as plain files, whether
    or not they hold. ``front_runs`` are the folders of the runs that the front comes from, nearest
    first, where they lie elsewhere than the job says.
    """
    if segment_file is not None and not mark_keys:
        raise UsageError(
            "a mark can only be read with its key",
            where="--segment-file",
            remedy="Give --mark-key, made by `clicooper keys open-mark`.",
        )
    run = open_whole_run(path)
    evidence = collect_run_evidence(
        run,
        owner_key=None if owner_key is None else read_public_key(owner_key),
        trainer_keys=[read_public_key(key, option="--trainer-keys") for key in trainer_keys]
        or None,
    )
    if export is not None:
        export_proofs(evidence, export)
    results = run_checks(evidence)
    marks = search_marks(run, evidence, mark_keys, segment_file)
    links = follow_run_chain(run, results, front_runs)
    failed = (
        has_failed_checks(results)
        or any(not mark.found for mark in marks)
        or any(link.passed is False for link in links)
    )
    uncovered = [printable_text(one) for one in uncovered_parts(run, evidence)]
    text = (
        report_as_json(results, marks, links, uncovered)
        if as_json
        else report_as_text(results, marks, links, uncovered, failed=failed)
    )
    return text, ExitCode.VERIFICATION if failed else ExitCode.DONE
