"""Report of `clicooper verify` on a run folder; needs no MPI, no GPU, no secrets."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from clicooper_hpc.errors import EvidenceError, ExitCode, RunFolderError, UsageError
from clicooper_hpc.printable import printable_json, printable_text
from clicooper_hpc.provenance.identity import PublicIdentity
from clicooper_hpc.runstore.reader import open_run
from clicooper_hpc.runstore.regular_files import read_named_file
from clicooper_hpc.verification.export import export_proofs
from clicooper_hpc.verification.marks.search import MarkResult, search_marks
from clicooper_hpc.verification.run_chain import ChainLink, follow_run_chain
from clicooper_hpc.verification.run_checks import CheckResult, has_failed_checks, run_checks
from clicooper_hpc.verification.run_evidence import collect_run_evidence
from clicooper_hpc.verification.uncovered import uncovered_parts

__all__ = ["read_public_key", "report_as_json", "report_as_text", "verification_report"]

#: A PEM file of a public key has about 120 bytes; notes may stand above it.
_PEM_BYTES = 65536
_WORDS = {True: "ok", False: "FAILED", None: "-"}
#: Uncovered parts that are named on the line; whoever can write the folder can make any number.
_SHOWN = 12


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
    run = open_run(path)
    evidence = collect_run_evidence(
        run,
        owner_key=None if owner_key is None else read_public_key(owner_key),
        trainer_keys=[read_public_key(key) for key in trainer_keys] or None,
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


def read_public_key(text: str) -> PublicIdentity:
    """Read a public key: 64 hexadecimal digits, or a PEM file; `UsageError` if it is neither."""
    try:
        if Path(text).is_file():
            return PublicIdentity.from_pem(read_named_file(Path(text), most=_PEM_BYTES))
        return PublicIdentity.from_raw(bytes.fromhex(text))
    except (ValueError, OSError, EvidenceError, RunFolderError) as error:
        raise UsageError(
            f"{text!r} is no public key ({error})",
            remedy="Give 64 hexadecimal digits or a PEM file.",
        ) from None


def report_as_text(
    results: Sequence[CheckResult],
    marks: Sequence[MarkResult],
    links: Sequence[ChainLink],
    uncovered: Sequence[str],
    *,
    failed: bool,
) -> str:
    """Return the report as lines: every check, mark and run behind this one, and the verdict."""
    lines = [
        f"{result.number:>2}  {_WORDS[result.passed]:<6}  {result.title:<21}  {result.detail}"
        for result in results
    ]
    lines += [mark.line() for mark in marks]
    lines += [link.line() for link in links]
    more = len(uncovered) - _SHOWN
    names = [*uncovered[:_SHOWN], *([f"and {more} more (--json names all)"] if more > 0 else [])]
    # What lies beside a verified run, or a stranger put there, must not pass for a part of it.
    lines.append(f"not covered: {', '.join(names)}")
    bad = [str(result.number) for result in results if result.passed is False]
    broken = [link.run_id for link in links if link.passed is False]
    if not failed:
        open_end = any(link.passed is None for link in links)
        rest = "; the run that its front comes from was not looked at" if open_end else ""
        lines.append(f"verified: every check that applies passed{rest}")
    elif bad:
        lines.append(f"NOT verified: check {', '.join(bad)} failed")
    elif broken:
        lines.append(f"NOT verified: front run {', '.join(broken)} failed")
    else:
        lines.append("the run is verified, but a mark was not found")
    return "\n".join(lines)


def report_as_json(
    results: Sequence[CheckResult],
    marks: Sequence[MarkResult],
    links: Sequence[ChainLink],
    uncovered: Sequence[str],
) -> str:
    """Return the report as a JSON text."""
    content = {
        "checks": [
            {
                "number": result.number,
                "title": result.title,
                "passed": result.passed,
                "detail": result.detail,
            }
            for result in results
        ],
        "marks": [mark.as_dict() for mark in marks],
        "front_runs": [link.as_dict() for link in links],
        "not_covered": list(uncovered),
        "verified": not has_failed_checks(results)
        and all(link.passed is not False for link in links),
    }
    return printable_json(content)
