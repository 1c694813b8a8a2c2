"""Texts of a verification's report, and reading the keys a user gives; loads no torch."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from clicooper_hpc.errors import ClicooperError, UsageError
from clicooper_hpc.printable import printable_json
from clicooper_hpc.provenance.identity import PublicIdentity
from clicooper_hpc.runstore.regular_files import read_named_file
from clicooper_hpc.verification.run_checks import CheckResult, has_failed_checks

if TYPE_CHECKING:
    # What finds them imports torch; a pack is verified without.
    from clicooper_hpc.verification.marks.search import MarkResult
    from clicooper_hpc.verification.run_chain import ChainLink

__all__ = ["read_public_key", "report_as_json", "report_as_text"]

#: A PEM file of a public key has about 120 bytes; notes may stand above it.
_PEM_BYTES = 65536
_WORDS = {True: "ok", False: "FAILED", None: "-"}
#: Uncovered parts that are named on the line; whoever can write the folder can make any number.
_SHOWN = 12


def read_public_key(text: str, *, option: str = "--owner-key") -> PublicIdentity:
    """Read a public key: 64 hexadecimal digits, or a PEM file.

    Raises
    ------
    UsageError
        It is neither; ``option`` says where it was given.
    """
    path = Path(text)
    try:
        if path.is_file():
            return PublicIdentity.from_pem(read_named_file(path, most=_PEM_BYTES))
        if path.is_dir():
            why = "is a folder, no public key"
        elif re.fullmatch("[0-9a-fA-F]{64}", text):
            return PublicIdentity.from_raw(bytes.fromhex(text))
        elif re.fullmatch("[0-9a-fA-F]+", text):
            why = f"is no public key: {len(text)} hexadecimal digits, not 64"
        else:
            why = "there is no such file, and it is no public key of 64 hexadecimal digits"
    except (ValueError, OSError, ClicooperError) as error:
        reason = error.what if isinstance(error, ClicooperError) else error
        why = f"is no public key ({reason})"
    raise UsageError(
        why,
        where=f"{option} {text}",
        remedy="Give the 64 digits that `clicooper keys new` has printed, or a public PEM file.",
    )


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
