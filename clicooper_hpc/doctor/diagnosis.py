"""`Diagnosis`, one finding of `clicooper doctor`; lists of them as text and as JSON."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Literal

from clicooper_hpc import __version__
from clicooper_hpc.errors import ExitCode
from clicooper_hpc.printable import printable_json

__all__ = [
    "Diagnosis",
    "diagnosed_ranks",
    "diagnoses_as_json",
    "diagnoses_as_text",
    "diagnosis_exit_code",
    "merge_diagnoses",
]

Level = Literal["ok", "warning", "bad"]
_NAME = 9
_INDENT = " " * (_NAME + _NAME + 2)


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """One finding: what was looked at, how it is, and what to change.

    Parameters
    ----------
    check
        Name of what was looked at; stable, for scripts.
    level
        "ok"; "warning": a run works, but slowly or not everywhere; "bad": a run would fail.
    text
        What was found.
    remedy
        What to change; "" where all is well.
    ranks
        The ranks it holds for; none stands for all until `merge_diagnoses` names them.
    """

    check: str
    level: Level
    text: str
    remedy: str = ""
    ranks: tuple[int, ...] = ()


def merge_diagnoses(findings: Iterable[Diagnosis], size: int) -> list[Diagnosis]:
    """Make one of equal findings of several ranks among ``size``, those of one check together."""
    ranks: dict[Diagnosis, set[int]] = {}
    for finding in findings:
        # Equal but for the ranks: a thousand ranks with the same library give one line.
        found = ranks.setdefault(replace(finding, ranks=()), set())
        found.update(finding.ranks or range(size))
    checks = list(dict.fromkeys(finding.check for finding in ranks))
    return sorted(
        (replace(finding, ranks=tuple(sorted(found))) for finding, found in ranks.items()),
        # Checks in the order in which they were made, so that causes stand before consequences.
        key=lambda finding: checks.index(finding.check),
    )


def diagnosis_exit_code(findings: Iterable[Diagnosis]) -> int:
    """Return 5 if a finding is bad, else 0."""
    bad = any(finding.level == "bad" for finding in findings)
    return int(ExitCode.ENVIRONMENT if bad else ExitCode.DONE)


def diagnoses_as_json(findings: Sequence[Diagnosis], *, hosts: Sequence[str]) -> str:
    """Return the findings for scripts; ``hosts`` is the host name of every rank."""
    content = {
        "clicooper": __version__,
        "exit_code": diagnosis_exit_code(findings),
        "hosts": list(hosts),
        "findings": [asdict(finding) for finding in findings],
    }
    return printable_json(content)


def diagnoses_as_text(findings: Sequence[Diagnosis], *, hosts: Sequence[str], width: int) -> str:
    """Return the findings for a terminal of ``width`` columns, the verdict last."""
    lines = [line for finding in findings for line in _lines(finding, hosts, width)]
    levels = [finding.level for finding in findings]
    bad, warnings = levels.count("bad"), levels.count("warning")
    where = f"{_count(len(hosts), 'rank')} on {_count(len(set(hosts)), 'host')}"
    verdict = "a run would fail" if bad else "fit for a run"
    return "\n".join([*lines, f"{where}: {bad} bad, {_count(warnings, 'warning')}: {verdict}"])


def diagnosed_ranks(ranks: Iterable[int]) -> str:
    """Write rank numbers in short, as in ``ranks 1-3, 5``."""
    spans: list[list[int]] = []
    for rank in sorted(ranks):
        if spans and rank == spans[-1][-1] + 1:
            spans[-1] = [spans[-1][0], rank]
        else:
            spans.append([rank])
    numbers = ", ".join("-".join(map(str, span)) for span in spans)
    return f"rank{'' if numbers.isdecimal() else 's'} {numbers}"


def _lines(finding: Diagnosis, hosts: Sequence[str], width: int) -> list[str]:
    # What holds for all ranks needs no list of them.
    whose = "" if len(finding.ranks) == len(hosts) else f"{_where(finding.ranks, hosts)}: "
    head = f"{finding.level:<{_NAME}}{finding.check:<{_NAME}}  "
    lines = _wrap(whose + finding.text, head, _INDENT, width)
    if finding.remedy:
        lines += _wrap(finding.remedy, f"{_INDENT}-> ", f"{_INDENT}   ", width)
    return lines


def _where(ranks: Sequence[int], hosts: Sequence[str]) -> str:
    names = {hosts[rank] for rank in ranks}
    one_of_several = len(names) == 1 and len(set(hosts)) > 1
    return diagnosed_ranks(ranks) + (f" on {names.pop()}" if one_of_several else "")


def _wrap(text: str, first: str, rest: str, width: int) -> list[str]:
    return textwrap.wrap(
        text,
        width,
        initial_indent=first,
        subsequent_indent=rest,
        # Paths and options stay whole, to be copied.
        break_long_words=False,
        break_on_hyphens=False,
    )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
