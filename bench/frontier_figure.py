"""The frontier as a figure: a panel for each attack, accuracy across, what it gains upwards."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from frontier_points import PANELS, Point, normalised, unit_of
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from paper_read import Measured

_MARKERS = {"off": "o", "element": "s", "sample": "^"}
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#aa4499", "#b8860b", "#333333", "#56b4e9", "#7f3c1b")


def draw(found: Sequence[tuple[Point, Measured]], path: Path) -> None:
    """Write the figure of all points; a missing attack leaves its point out of that panel."""
    releases = list(dict.fromkeys(point.release for point, _ in found))
    colours = {name: _COLOURS[at % len(_COLOURS)] for at, name in enumerate(releases)}
    figure = Figure(figsize=(11.5, 6.8), layout="constrained")
    axes = figure.subplots(2, 3)
    low = 100 * min((measured.accuracy for _, measured in found), default=0.0)
    high = 100 * max((measured.accuracy for _, measured in found), default=1.0)
    for axis, row in zip(axes.flat, PANELS, strict=False):
        heights = normalised(row, found)
        _panel(axis, found, heights, colours)
        axis.set_title(f"{row.label}, {row.party}", fontsize=10)
        axis.set_xlim(low - 3, high + 3)
        known = [one for one in heights if not math.isnan(one)]
        if not known:
            axis.text(0.5, 0.5, "no gain without noise", ha="center", transform=axis.transAxes)
        axis.set_ylim(min([-0.08, *known]) - 0.04, max([1.08, *known]) + 0.04)
        axis.axhline(0, color="grey", linewidth=0.8, linestyle="--")
        axis.axhline(1, color="grey", linewidth=0.8, linestyle=":")
        axis.grid(visible=True, alpha=0.25)
    for axis in axes[1]:
        axis.set_xlabel("accuracy on clean images, %")
    for axis in axes[:, 0]:
        axis.set_ylabel("gain: 0 no information, 1 undefended")
    _legend(axes[1, 2], colours)
    figure.savefig(path, dpi=130)


def _panel(
    axis: Any,
    found: Sequence[tuple[Point, Measured]],
    heights: Sequence[float],
    colours: dict[str, str],
) -> None:
    for release, colour in colours.items():
        mine = [
            (point, 100 * measured.accuracy, height)
            for (point, measured), height in zip(found, heights, strict=True)
            if point.release == release and not math.isnan(height)
        ]
        joined = [(across, height) for point, across, height in mine if not point.map]
        places = [[one[side] for one in joined] for side in (0, 1)]
        axis.plot(*places, color=colour, linewidth=1, alpha=0.6)
        for point, across, height in mine:
            axis.plot(
                across,
                height,
                marker=_MARKERS[unit_of(point.noise)],
                color=colour,
                markerfacecolor="white" if point.map else colour,
                markersize=6.5,
                linestyle="none",
                clip_on=False,
                zorder=3,
            )
            if point.shipped:
                axis.plot(
                    across,
                    height,
                    marker="o",
                    markersize=14,
                    markerfacecolor="none",
                    color="black",
                    linestyle="none",
                    clip_on=False,
                    zorder=4,
                )


def _legend(axis: Any, colours: dict[str, str]) -> None:
    axis.axis("off")
    handles = [Line2D([], [], color=colour, label=name) for name, colour in colours.items()]

    def mark(marker: str, label: str, **more: Any) -> Line2D:
        style = {"color": "#444444", "linestyle": "none", "markersize": 7, **more}
        return Line2D([], [], marker=marker, label=label, **style)

    handles += [
        mark("o", "no noise"),
        mark("s", "noise, unit element"),
        mark("^", "noise, unit sample"),
        mark("^", "another label map", markerfacecolor="white"),
        mark("o", "a shipped job", color="black", markersize=13, markerfacecolor="none"),
    ]
    axis.legend(handles=handles, loc="center", fontsize=9.5, frameon=False)
    axis.text(
        0.5,
        0.0,
        "lines join a release from no noise to most",
        ha="center",
        fontsize=9,
        transform=axis.transAxes,
    )
