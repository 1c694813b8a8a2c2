"""A sweep as text, as JSON values and as rows of a CSV file: runs, means and spread, privacy."""

from __future__ import annotations

import csv
import io
import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from clicooper_hpc.config.toml_text import parse_toml_value
from clicooper_hpc.sweep.repeated_releases import RepeatedReleases, RunCharge
from clicooper_hpc.sweep.sweep_runs import RunOutcome, SweepRun, sweep_exit_code

__all__ = [
    "CSV_HEADINGS",
    "ResultSpread",
    "SweepGroup",
    "forecast_text",
    "group_outcomes",
    "sweep_csv",
    "sweep_json",
    "sweep_text",
]

#: First columns of the CSV file, by which a file of a sweep is known.
CSV_HEADINGS: Final = ("run", "state", "exit_code", "error", "epsilon", "delta")
_FORMAT: Final = "clicooper sweep 1"
_SELECTION: Final = (
    "Choosing the best of several runs uses the held-out samples, which no epsilon covers: the "
    "choice leaks something of them, and the winner's score is too good."
)
_ELSEWHERE: Final = "Runs on the same samples in other folders add to this."


@dataclass(frozen=True, slots=True)
class ResultSpread:
    """One result over the runs of a group.

    Attributes
    ----------
    count
        Runs that have it.
    mean, least, most
        Of them.
    deviation
        Sample standard deviation (of n - 1); None for a single run.
    """

    count: int
    mean: float
    deviation: float | None
    least: float
    most: float


@dataclass(frozen=True, slots=True)
class SweepGroup:
    """Runs that differ in their seed alone."""

    settings: tuple[tuple[str, str], ...]
    runs: int
    results: dict[str, ResultSpread]

    @property
    def title(self) -> str:
        """The settings on one line."""
        return ", ".join(f"{key} = {value}" for key, value in self.settings) or "the job as it is"


def group_outcomes(outcomes: Sequence[RunOutcome]) -> list[SweepGroup]:
    """Return one group for each setting, with mean and spread of every number its runs gave."""
    groups: dict[tuple[tuple[str, str], ...], list[RunOutcome]] = {}
    for outcome in outcomes:
        groups.setdefault(outcome.run.combination.group, []).append(outcome)
    return [
        SweepGroup(settings, len(members), _spreads(members))
        for settings, members in groups.items()
    ]


def _spreads(members: Sequence[RunOutcome]) -> dict[str, ResultSpread]:
    found: dict[str, list[float]] = {}
    for outcome in members:
        for name, value in outcome.results.items():
            if isinstance(value, (int, float)) and math.isfinite(value):
                found.setdefault(name, []).append(float(value))
    return {
        name: ResultSpread(
            len(values),
            statistics.fmean(values),
            statistics.stdev(values) if len(values) > 1 else None,
            min(values),
            max(values),
        )
        for name, values in found.items()
    }


def forecast_text(runs: Sequence[SweepRun]) -> str:
    """Return one line on what the runs will promise, before the first starts."""
    private = [run.job.privacy for run in runs if run.job.privacy.enabled]
    if len(private) < len(runs):
        return f"{len(runs) - len(private)} of {len(runs)} runs release samples without noise"
    claims = {(one.unit, one.relation) for one in private}
    line = f"{len(runs)} runs, and each releases its samples anew: their epsilons add up"
    if len(claims) != 1:
        return line
    ((unit, relation),) = claims
    total = math.fsum(one.epsilon for one in private)
    return f"{line}, to {total:.6g} per {unit} ({relation}) if all are made on the same data"


def sweep_text(
    outcomes: Sequence[RunOutcome],
    privacy: Sequence[RepeatedReleases],
    unknown: Sequence[str],
    title: str,
) -> str:
    """Return table, runs that are not complete, and privacy, as lines for a terminal.

    ``unknown``: a line for each run whose cost cannot be read.
    """
    states = [outcome.state for outcome in outcomes]
    counts = ", ".join(
        f"{states.count(state)} {state}" for state in dict.fromkeys(states) if state in states
    )
    lines = [f"{title}: {len(outcomes)} runs, {counts}", "", *_table(group_outcomes(outcomes))]
    rest = [outcome for outcome in outcomes if outcome.state != "complete"]
    if rest:
        lines.append("")
    for outcome in rest:
        code = "" if outcome.exit_code is None else f" (exit code {outcome.exit_code})"
        error = f": {outcome.error}" if outcome.error else ""
        lines.append(f"{outcome.run.name}: {outcome.state.upper()}{code}{error}")
    lines += ["", *(_privacy_line(one) for one in privacy)]
    lines += [f"privacy: NOT KNOWN of a run, so more than this: {one}" for one in unknown]
    if privacy:
        lines.append(_ELSEWHERE)
    if len(outcomes) > 1:
        lines.append(_SELECTION)
    return "\n".join(lines).rstrip("\n")


def _table(groups: Sequence[SweepGroup]) -> list[str]:
    names = list(
        dict.fromkeys(
            name for group in groups for name in group.results if name.endswith("_accuracy")
        )
    )
    rows = [
        ["", "runs", *names],
        *(
            [group.title, str(group.runs), *(_cell(group, name) for name in names)]
            for group in groups
        ),
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    table = [
        row[0].ljust(widths[0])
        + "".join(f"  {cell:>{width}}" for cell, width in zip(row[1:], widths[1:], strict=True))
        for row in rows
    ]
    if not names:
        return table
    return [*table, "mean, +- sample standard deviation, (n) where not all runs have it"]


def _cell(group: SweepGroup, name: str) -> str:
    spread = group.results.get(name)
    if spread is None:
        return "-"
    deviation = "" if spread.deviation is None else f" +- {100 * spread.deviation:.2f}"
    count = "" if spread.count == group.runs else f" ({spread.count})"
    return f"{100 * spread.mean:.2f} %{deviation}{count}"


def _privacy_line(one: RepeatedReleases) -> str:
    runs = f"{len(one.names)} run{'s' * (len(one.names) != 1)} on {one.data}"
    if math.isinf(one.added):
        return f"privacy: {runs}: NO GUARANTEE, one of them is without noise of its own"
    text = f"privacy: {runs} cost one {one.unit} ({one.relation}) epsilon {one.added:.6g}"
    if one.composed < one.added:
        text += f" by addition, {one.composed:.6g} by exact composition of the Gaussian noise"
    return f"{text}, at delta {one.delta:.3g}."


def sweep_csv(
    outcomes: Sequence[RunOutcome],
    charges: Sequence[RunCharge],
    earlier: Sequence[Mapping[str, str]] = (),
) -> str:
    """Return one row a run: `CSV_HEADINGS`, a column for each key, one for each result.

    ``earlier``: rows of other runs in the folder, by heading, kept as they are.
    """
    paid = {charge.name: charge for charge in charges}
    keys = list(dict.fromkeys(key for one in outcomes for key, _ in one.run.combination.settings))
    results = list(dict.fromkeys(name for one in outcomes for name in one.results))
    known = {*CSV_HEADINGS, *keys, *results}
    others = list(dict.fromkeys(name for row in earlier for name in row if name not in known))
    headings = [*CSV_HEADINGS, *keys, *results, *others]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(headings)
    for row in earlier:
        writer.writerow([row.get(name, "") for name in headings])
    for one in outcomes:
        charge = paid.get(one.run.name)
        settings = dict(one.run.combination.settings)
        writer.writerow(
            [
                one.run.name,
                one.state,
                "" if one.exit_code is None else int(one.exit_code),
                one.error,
                "" if charge is None else charge.epsilon,
                "" if charge is None else charge.delta,
                *(_plain(settings[key]) if key in settings else "" for key in keys),
                *(one.results.get(name, "") for name in results),
                *("" for _ in others),
            ]
        )
    return text.getvalue()


def sweep_json(
    outcomes: Sequence[RunOutcome],
    charges: Sequence[RunCharge],
    privacy: Sequence[RepeatedReleases],
    unknown: Sequence[str],
    folder: str,
) -> dict[str, Any]:
    """Return the sweep as values for JSON; an epsilon without bound is infinite."""
    paid = {charge.name: charge for charge in charges}
    return {
        "format": _FORMAT,
        "folder": folder,
        "exit_code": int(sweep_exit_code(outcomes)),
        "runs": [_run_json(one, paid.get(one.run.name)) for one in outcomes],
        "groups": [
            {
                "settings": {key: _plain(value) for key, value in group.settings},
                "runs": group.runs,
                "results": {
                    name: {
                        "n": spread.count,
                        "mean": spread.mean,
                        "standard_deviation": spread.deviation,
                        "min": spread.least,
                        "max": spread.most,
                    }
                    for name, spread in group.results.items()
                },
            }
            for group in group_outcomes(outcomes)
        ],
        "privacy": [
            {
                "data": one.data,
                "runs": [*one.names],
                "unit": one.unit,
                "relation": one.relation,
                "epsilon_added": one.added,
                "epsilon_composed": one.composed,
                "delta": one.delta,
            }
            for one in privacy
        ],
        "privacy_unknown": [*unknown],
    }


def _run_json(one: RunOutcome, charge: RunCharge | None) -> dict[str, Any]:
    return {
        "name": one.run.name,
        "settings": {key: _plain(value) for key, value in one.run.combination.settings},
        "state": one.state,
        "exit_code": None if one.exit_code is None else int(one.exit_code),
        "error": one.error or None,
        "results": dict(one.results),
        "epsilon": None if charge is None else charge.epsilon,
        "delta": None if charge is None else charge.delta,
    }


def _plain(text: str) -> Any:
    """Return the value that TOML text says; lists and tables as JSON text in one cell."""
    value = parse_toml_value(text, where="setting")
    return json.dumps(value) if isinstance(value, (list, dict)) else value
