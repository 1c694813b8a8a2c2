"""Findings over seeds, as lines of a table that fits 120 columns."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import zip_longest
from typing import Final

from clicooper_hpc.attacks.harness.attack import AttackResult
from clicooper_hpc.attacks.harness.tasks import FAILED, NOT_APPLICABLE

__all__ = ["TableLine", "strongest_table_lines", "table_lines", "table_text"]

_WIDTH: Final = 120
_NUMBERS: Final = (("value [low, high]", 26), ("chance", 7), ("baseline", 8), ("ceiling", 8))
_KIND_WIDTH: Final = 6
_INDENT: Final = "  "
_GAP: Final = "  "
_STRONGEST: Final = "strongest"


@dataclass(frozen=True, slots=True)
class TableLine:
    """One metric of one variant of an attack by a party, over its seeds.

    Parameters
    ----------
    value, smallest, largest
        Mean and range over the seeds.
    low, high
        The lowest and the highest end of any seed's confidence interval; without intervals the
        range over seeds, and nan for a single seed.
    chance, baseline, ceiling
        Means over the seeds; nan where no seed has one.
    seeds
        Number of seeds.
    """

    attack: str
    variant: str
    party: str
    metric: str
    kind: str
    value: float
    smallest: float
    largest: float
    low: float
    high: float
    chance: float
    baseline: float
    ceiling: float
    seeds: int
    note: str

    @property
    def above_ceiling(self) -> bool:
        """Whether even the lowest end lies above what differential privacy allows."""
        # The low end and not the value: by chance every second honest figure at the ceiling lies
        # above it.
        return self.low > self.ceiling

    def as_dict(self) -> dict[str, str | float | int | None]:
        """Return plain values for JSON, which knows no nan."""
        return {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in asdict(self).items()
        }


def table_lines(results: Iterable[AttackResult]) -> tuple[TableLine, ...]:
    """Put the seeds of each metric together, in the order the metrics first occur."""
    groups: dict[tuple[str, ...], list[AttackResult]] = {}
    for one in results:
        key = (one.attack, one.variant, one.party, one.metric, one.kind)
        groups.setdefault(key, []).append(one)
    return tuple(_table_line(group) for group in groups.values())


def _table_line(group: Sequence[AttackResult]) -> TableLine:
    first = group[0]
    values = _known_values(one.value for one in group)
    # Without intervals the range over seeds stands in; one seed has no range.
    lows = _known_values(one.low for one in group) or (values if len(values) > 1 else [])
    highs = _known_values(one.high for one in group) or (values if len(values) > 1 else [])
    return TableLine(
        attack=first.attack,
        variant=first.variant,
        party=first.party,
        metric=first.metric,
        kind=first.kind,
        value=_mean_value(values),
        smallest=min(values, default=math.nan),
        largest=max(values, default=math.nan),
        # The widest of the seeds: an interval of their mean would forget that all seeds share one
        # run.
        low=min(lows, default=math.nan),
        high=max(highs, default=math.nan),
        chance=_mean_value(_known_values(one.chance for one in group)),
        baseline=_mean_value(_known_values(one.baseline for one in group)),
        ceiling=_mean_value(_known_values(one.ceiling for one in group)),
        seeds=len(group),
        note=first.note,
    )


def _known_values(values: Iterable[float]) -> list[float]:
    return [value for value in values if not math.isnan(value)]


def _mean_value(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values) if values else math.nan


def strongest_table_lines(lines: Sequence[TableLine]) -> tuple[TableLine, ...]:
    """Keep, of the variants of an attack by a party, the one that reaches most in each metric.

    Most is the least for errors (metrics that begin with "MSE"). Where an attack names a variant
    "strongest" itself, that one is kept: its chance level allows for the choice among many.
    """
    groups: dict[tuple[str, ...], list[TableLine]] = {}
    for line in lines:
        groups.setdefault((line.attack, line.party, line.metric, line.kind), []).append(line)
    return tuple(_strongest_line(group) for group in groups.values())


def _strongest_line(group: Sequence[TableLine]) -> TableLine:
    for line in group:
        if line.variant == _STRONGEST:
            return line
    sign = -1 if group[0].metric.startswith("MSE") else 1
    # A nan is never the strongest if there is a number.
    return max(group, key=lambda line: -math.inf if math.isnan(line.value) else sign * line.value)


def table_text(lines: Sequence[TableLine]) -> str:
    """Return the table: a heading per attack and party, then a row per metric."""
    figures = [line for line in lines if line.metric not in (FAILED, NOT_APPLICABLE)]
    groups: dict[tuple[str, str], list[TableLine]] = {}
    for line in figures:
        groups.setdefault((line.attack, line.party), []).append(line)
    text: list[str] = []
    if figures:
        widths = _table_widths(figures)
        heads = [name for name, _ in _NUMBERS]
        text += _table_row("variant", "metric", "kind", heads, widths)
        for (attack, party), group in groups.items():
            text.append(f"{attack}, {party}")
            for line in group:
                text += _table_row(line.variant, line.metric, line.kind, _table_cells(line), widths)
        text.append(
            "value: mean over seeds; [low, high]: lowest and highest end of the seeds' 95 % "
            "intervals, or their range"
        )
        if any(line.above_ceiling for line in figures):
            text.append("!: above what differential privacy allows: the mechanism has a bug")
    text += _table_reasons(lines, NOT_APPLICABLE)
    text += _table_reasons(lines, FAILED)
    return "\n".join(text)


def _table_widths(figures: Sequence[TableLine]) -> tuple[int, int]:
    """Give variant and metric what they need, or a fair part of the room there is."""
    fixed = len(_INDENT) + _KIND_WIDTH + sum(width for _, width in _NUMBERS)
    room = _WIDTH - fixed - len(_GAP) * (len(_NUMBERS) + 2)
    variant = max(len("variant"), *(len(line.variant) for line in figures))
    metric = max(len("metric"), *(len(line.metric) for line in figures))
    if variant + metric > room:
        # Metrics are compared across variants, so the variant gives way first.
        variant = max(room - metric, min(variant, room // 2))
    return variant, min(metric, room - variant)


def _table_row(
    variant: str, metric: str, kind: str, numbers: Sequence[str], widths: tuple[int, int]
) -> list[str]:
    """Return one row; what is too long for its column goes on below."""
    sized = zip(numbers, _NUMBERS, strict=True)
    figures = [f"{cell:<{size}}" if size > 8 else f"{cell:>{size}}" for cell, (_, size) in sized]
    columns = [
        textwrap.wrap(text, width) or [""]
        for text, width in zip((variant, metric), widths, strict=True)
    ]
    rows = []
    for number, names in enumerate(zip_longest(*columns, fillvalue="")):
        named = [f"{name:<{width}}" for name, width in zip(names, widths, strict=True)]
        rest = [f"{kind:<{_KIND_WIDTH}}", *figures] if number == 0 else []
        rows.append((_INDENT + _GAP.join([*named, *rest])).rstrip())
    return rows


def _table_cells(line: TableLine) -> list[str]:
    value = _table_number(line.value)
    if not math.isnan(line.low) and not math.isnan(line.high):
        value = f"{value} [{_table_number(line.low)}, {_table_number(line.high)}]"
    ceiling = (
        f"!{_table_number(line.ceiling)}" if line.above_ceiling else _table_number(line.ceiling)
    )
    return [value, _table_number(line.chance), _table_number(line.baseline), ceiling]


def _table_number(value: float) -> str:
    if math.isnan(value):
        return "-"
    return f"{value:.4f}" if abs(value) < 10 else f"{value:.4g}"


def _table_reasons(lines: Sequence[TableLine], metric: str) -> list[str]:
    """Say, for each attack and reason, which parties it was."""
    reasons: dict[tuple[str, str], list[str]] = {}
    for line in lines:
        if line.metric == metric:
            reasons.setdefault((line.attack, line.note), []).append(line.party)
    return [
        part
        for (attack, reason), parties in reasons.items()
        for part in textwrap.wrap(
            f"{metric}: {attack}, {', '.join(dict.fromkeys(parties))}: {reason}",
            _WIDTH,
            subsequent_indent=_INDENT,
        )
    ]
