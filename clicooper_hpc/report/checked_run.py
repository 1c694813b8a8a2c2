"""What verification says of a run, for the page: the checks of `clicooper verify`, in words."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from clicooper_hpc.errors import ClicooperError
from clicooper_hpc.report.run_reading import RunReading
from clicooper_hpc.verification.run_chain import ChainLink, follow_run_chain
from clicooper_hpc.verification.run_checks import CheckResult, has_failed_checks, run_checks
from clicooper_hpc.verification.run_evidence import collect_run_evidence
from clicooper_hpc.verification.uncovered import uncovered_parts

__all__ = ["CheckedRun", "check_run"]

#: Uncovered parts that are named; whoever can write the folder can make any number.
_SHOWN = 12
#: Characters of the first failed check in the sentence; the rest stands in the table.
_LENGTH = 200
_WORDS = {True: "ok", False: "FAILED", None: "not done"}


@dataclass(frozen=True, slots=True)
class CheckedRun:
    """Outcome of the checks of one run.

    Attributes
    ----------
    passed
        None if the run was made without proofs, or they could not be collected.
    sentence
        The outcome, and the first failed check by name.
    rows
        Number, title, outcome and detail of each check, front runs behind the run last.
    uncovered
        What no check looks at.
    failed_segments
        Segments whose trainers' own statements failed a check.
    """

    passed: bool | None
    sentence: str
    rows: Sequence[tuple[str, str, str, str]] = ()
    uncovered: Sequence[str] = ()
    failed_segments: frozenset[int] = frozenset()


def check_run(reading: RunReading) -> CheckedRun:
    """Run the checks of ``reading``'s run, and of the runs that its front comes from."""
    run, line = reading.run, reading.public.line
    try:
        evidence = collect_run_evidence(run)
        results = run_checks(evidence)
        links = follow_run_chain(run, results)
        uncovered = [line(one) for one in uncovered_parts(run, evidence)]
    except ClicooperError as error:
        return CheckedRun(None, f"Not verified: {line(error.what)}.")
    if len(uncovered) > _SHOWN:
        more = len(uncovered) - _SHOWN
        uncovered = [*uncovered[:_SHOWN], f"and {more} more (clicooper verify --json names all)"]
    rows = [
        (str(one.number), line(one.title), _WORDS[one.passed], line(one.detail)) for one in results
    ]
    rows += [
        ("", f"Front run {line(link.run_id)}", _WORDS[link.passed], line(link.detail))
        for link in links
    ]
    return CheckedRun(
        passed=not has_failed_checks(results) and all(link.passed is not False for link in links),
        sentence=_outcome(results, links, reading),
        rows=rows,
        uncovered=uncovered,
        failed_segments=frozenset(
            segment for one in results if one.passed is False for segment in one.segments
        ),
    )


def _outcome(
    results: Sequence[CheckResult], links: Sequence[ChainLink], reading: RunReading
) -> str:
    failed = [one for one in results if one.passed is False]
    if failed:
        first, more = failed[0], len(failed) - 1
        others = f"{more} more failed. " if more else ""
        detail = textwrap.shorten(reading.public.line(first.detail), _LENGTH, placeholder=" ...")
        return (
            f"NOT verified: check {first.number} ({first.title}) failed: {detail}. {others}"
            "All checks stand below."
        )
    for link in links:
        if link.passed is False:
            text = f"NOT verified: the run behind this one, {link.run_id}, failed: {link.detail}."
            return reading.public.line(text)
    passed = sum(one.passed is True for one in results)
    rest = ""
    if any(link.passed is None for link in links):
        rest = " The run that its front comes from was not looked at."
    return (
        f"Verified: all {passed} checks that apply passed, so the keys in this run signed what the "
        "folder holds, in this order, and nothing signed has changed since. Whose keys they are, "
        "and whether the training was really done, is not part of it: clicooper verify "
        f"--owner-key, clicooper audit.{rest}"
    )
