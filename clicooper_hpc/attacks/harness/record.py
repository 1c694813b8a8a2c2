"""The results of attacks as a stored record and as the text or JSON that the user sees."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

from clicooper_hpc.attacks.harness.attack import AttackResult
from clicooper_hpc.attacks.harness.table import (
    TableLine,
    strongest_table_lines,
    table_lines,
    table_text,
)
from clicooper_hpc.attacks.harness.tasks import FAILED, AttackTask
from clicooper_hpc.errors import ExitCode
from clicooper_hpc.printable import printable_json
from clicooper_hpc.run.environment import environment_versions
from clicooper_hpc.runstore.attack_record import AttackRecord

__all__ = [
    "order_record",
    "record_exit_code",
    "record_results",
    "record_text",
    "record_versions",
]


def record_versions() -> dict[str, str]:
    """Return the versions of what attacks compute with, as attributes ``NAME_version``."""
    found = {**environment_versions(), "sklearn": metadata.version("scikit-learn")}
    return {f"{name}_version": version for name, version in found.items()}


def record_results(record: AttackRecord) -> tuple[AttackResult, ...]:
    """Return the findings of a record as values."""
    rows: Sequence[Mapping[str, Any]] = record.findings
    return tuple(AttackResult(**row) for row in rows)


def order_record(record: AttackRecord, tasks: Sequence[AttackTask]) -> AttackRecord:
    """Return the record with its findings in the order of ``tasks``, whoever found them."""
    # Ranks and shares hand their parts in as they end, and the file must not depend on that.
    place = {(task.attack, task.party, task.seed): number for number, task in enumerate(tasks)}
    ordered = sorted(
        record.findings,
        key=lambda row: place[str(row["attack"]), str(row["party"]), int(row["seed"])],
    )
    return AttackRecord(record.attributes, ordered, record.arrays)


def record_exit_code(record: AttackRecord) -> ExitCode:
    """Return 1 if an attack broke off with an error, else 0."""
    failed = any(row["metric"] == FAILED for row in record.findings)
    return ExitCode.INTERNAL if failed else ExitCode.DONE


def record_text(record: AttackRecord, path: Path, *, as_json: bool, every: bool) -> str:
    """Return what the user sees of a record stored in ``path``.

    As text it is the strongest variant in each metric, or with ``every`` all of them.
    """
    findings = record_results(record)
    lines = table_lines(findings)
    return (
        _record_as_json(record, findings, lines, path)
        if as_json
        else _record_as_text(record, lines, path, every=every)
    )


def _record_as_text(
    record: AttackRecord, lines: Sequence[TableLine], path: Path, *, every: bool
) -> str:
    about = record.attributes
    # Stored are all variants; what is shown is what an owner has to fear.
    shown = lines if every else strongest_table_lines(lines)
    more = len(lines) - len(shown)
    head = [
        f"run {about['run_id']}, {about['seeds']} seeds each, strength {about['scale']:g}"
        + ("" if about["scale"] == 1 else " (REDUCED: not what was published)"),
        f"attackers may have: {about['aux_same']} images of the owner's distribution, "
        f"public data: {about['aux_public']}",
        "",
    ]
    tail = [f"of each metric the strongest variant; --all shows {more} more"] if more else []
    return "\n".join([*head, table_text(shown), *tail, "", f"wrote {path}"])


def _record_as_json(
    record: AttackRecord, findings: Sequence[AttackResult], lines: Sequence[TableLine], path: Path
) -> str:
    content = {
        "file": str(path),
        **record.attributes,
        "table": [line.as_dict() for line in lines],
        "findings": [
            {
                # JSON has no nan.
                name: None if isinstance(value, float) and not math.isfinite(value) else value
                for name, value in asdict(finding).items()
            }
            for finding in findings
        ],
    }
    return printable_json(content)
