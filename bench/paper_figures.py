"""Figures over seeds, and whether they hold: means, ranges, pooled intervals. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from paper_rows import Target

from clicooper_hpc.attacks.harness.table import TableLine

#: Shown where a figure is not there.
NONE = "-"


@dataclass(frozen=True, slots=True)
class Spread:
    """A figure at several seeds."""

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Mean; nan of none."""
        return math.fsum(self.values) / len(self.values) if self.values else math.nan

    def text(self, show: Callable[[float], str], unit: str = "") -> str:
        """Return ``mean (smallest..largest) unit``; the range only where it says something."""
        if not self.values:
            return NONE
        mean = show(self.mean)
        least, most = show(min(self.values)), show(max(self.values))
        spread = f" ({least}..{most})" if least != most else ""
        return f"{mean}{spread}{unit}"


def percent(value: float) -> str:
    """Return per cent with one place, two below 1 %; without the sign."""
    shown = 100 * value
    return f"{shown:.2f}" if 0 < abs(shown) < 1 else f"{shown:.1f}"


def number(value: float) -> str:
    """Return two places, three for small numbers."""
    return f"{value:.3f}" if abs(value) < 0.2 else f"{value:.2f}"


def spread_of(values: Sequence[float]) -> Spread:
    """Return the spread of what is known."""
    return Spread(tuple(value for value in values if not math.isnan(value)))


def pooled(lines: Sequence[TableLine]) -> TableLine:
    """Return the mean line of several seeds.

    The half-widths of independent intervals add up in squares: that of a mean of n is
    sqrt(sum of squares) / n.
    """
    count = len(lines)
    value = spread_of([line.value for line in lines]).mean

    def end(parts: Sequence[float], sign: int) -> float:
        return value + sign * math.sqrt(math.fsum(part**2 for part in parts)) / count

    return replace(
        lines[0],
        value=value,
        low=end([line.value - line.low for line in lines], -1),
        high=end([line.high - line.value for line in lines], 1),
        chance=spread_of([line.chance for line in lines]).mean,
        baseline=spread_of([line.baseline for line in lines]).mean,
        ceiling=spread_of([line.ceiling for line in lines]).mean,
        seeds=count,
    )


def verdict(target: Target, lines: Sequence[TableLine], classes: int) -> str:
    """Return yes or no for the mean, and how many seeds hold by themselves; ``-`` without rule."""
    if not lines or (target.classes is not None and target.classes != classes):
        return NONE
    whole = target.rule(pooled(lines))
    if whole is None:
        return "no bound"
    held = sum(target.rule(line) is True for line in lines)
    return f"{'yes' if whole else '**no**'} {held}/{len(lines)}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table; bars in cells are taken care of."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "/") for cell in line) + " |" for line in lines
    )
