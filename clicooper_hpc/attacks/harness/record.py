"""Findings as they are kept and shown: one record per share or rank, put together, told."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

from clicooper_hpc.attacks.harness.result import AttackResult
from clicooper_hpc.attacks.harness.share import FAILED, Cell
from clicooper_hpc.attacks.harness.table import Line, aggregate, strongest, table_text
from clicooper_hpc.errors import ExitCode, RunFolderError
from clicooper_hpc.run.environment import environment_versions
from clicooper_hpc.runstore.attacks import AttackRecord
from clicooper_hpc.runstore.h5 import Attribute

__all__ = [
    "exit_code",
    "findings_of",
    "in_order",
    "library_versions",
    "merge_records",
    "told",
]

#: Attributes that parts of one whole may differ in.
_OWN = frozenset({"created", "share"})


def library_versions() -> dict[str, str]:
    """Return the versions of what attacks compute with, as attributes ``NAME_version``."""
    found = {**environment_versions(), "sklearn": metadata.version("scikit-learn")}
    return {f"{name}_version": version for name, version in found.items()}


def findings_of(record: AttackRecord) -> tuple[AttackResult, ...]:
    """Return the findings of a record as values."""
    rows: Sequence[Mapping[str, Any]] = record.findings
    return tuple(AttackResult(**row) for row in rows)


def in_order(record: AttackRecord, cells: Sequence[Cell]) -> AttackRecord:
    """Return the record with its findings in the order of ``cells``, whoever found them."""
    place = {(cell.attack, cell.party, cell.seed): number for number, cell in enumerate(cells)}
    ordered = sorted(
        record.findings,
        key=lambda row: place[str(row["attack"]), str(row["party"]), int(row["seed"])],
    )
    return AttackRecord(record.attributes, ordered, record.arrays)


def merge_records(records: Sequence[tuple[str, AttackRecord]]) -> AttackRecord:
    """Put named parts together, in the order given.

    Raises
    ------
    RunFolderError
        Two parts are of different runs, or were made in different ways.
    """
    first_name, first = records[0]
    common = _common(first)
    for name, record in records[1:]:
        other = _common(record)
        odd = sorted(
            key for key in common.keys() | other.keys() if common.get(key) != other.get(key)
        )
        if odd:
            raise RunFolderError(
                f"{odd[0]} is {other.get(odd[0])!r} here "
                f"and {common.get(odd[0])!r} in {first_name}",
                where=name,
                remedy="Put together only shares of one `clicooper attack`.",
            )
    return AttackRecord(
        {**common, "created": max(str(record.attributes["created"]) for _, record in records)},
        [row for _, record in records for row in record.findings],
        {key: values for _, record in records for key, values in record.arrays.items()},
    )


def _common(record: AttackRecord) -> dict[str, Attribute]:
    return {name: value for name, value in record.attributes.items() if name not in _OWN}


def exit_code(record: AttackRecord) -> ExitCode:
    """Return 1 if an attack broke off with an error, else 0."""
    failed = any(row["metric"] == FAILED for row in record.findings)
    return ExitCode.INTERNAL if failed else ExitCode.DONE


def told(record: AttackRecord, path: Path, *, as_json: bool, every: bool) -> str:
    """Return what the user sees of a record stored in ``path``.

    As text it is the strongest variant in each metric, or with ``every`` all of them.
    """
    findings = findings_of(record)
    lines = aggregate(findings)
    return (
        _as_json(record, findings, lines, path)
        if as_json
        else _as_text(record, lines, path, every=every)
    )


def _as_text(record: AttackRecord, lines: Sequence[Line], path: Path, *, every: bool) -> str:
    about = record.attributes
    shown = lines if every else strongest(lines)
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


def _as_json(
    record: AttackRecord, findings: Sequence[AttackResult], lines: Sequence[Line], path: Path
) -> str:
    content = {
        "file": str(path),
        **record.attributes,
        "table": [line.as_dict() for line in lines],
        "findings": [
            {
                name: None if isinstance(value, float) and not math.isfinite(value) else value
                for name, value in asdict(finding).items()
            }
            for finding in findings
        ],
    }
    return json.dumps(content, indent=2, allow_nan=False)
