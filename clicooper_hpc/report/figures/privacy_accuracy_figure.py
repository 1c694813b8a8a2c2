"""Figure of several runs: accuracy against epsilon, runs without privacy apart on the right."""

from __future__ import annotations

import math
from collections.abc import Sequence

from clicooper_hpc.report.figures.inline_svg import INK, figure_svg, new_figure
from clicooper_hpc.report.several_runs import PrivacyPoint

__all__ = ["privacy_accuracy_figure"]

#: Points up to which each has its name beside it.
_NAMED = 8


def privacy_accuracy_figure(points: Sequence[PrivacyPoint], name: str) -> str:
    """Return accuracy against epsilon as inline SVG; empty without points."""
    if not points:
        return ""
    finite = [one.epsilon for one in points if 0 < one.epsilon < math.inf]
    # No axis has a place for infinity: one step of ten to the right of the largest epsilon.
    infinity = 10 ** (math.floor(math.log10(max(finite, default=1.0))) + 2)
    with new_figure(5.0, 3.2) as figure:
        axes = figure.subplots()
        for colour, marker, label, private in (
            ("blue", "o", "with privacy", True),
            ("orange", "s", "without privacy", False),
        ):
            chosen = [one for one in points if (0 < one.epsilon < math.inf) is private]
            if chosen:
                axes.plot(
                    [one.epsilon if private else infinity for one in chosen],
                    [100 * one.accuracy for one in chosen],
                    marker,
                    color=INK[colour],
                    label=label,
                    markersize=6,
                )
        if len(points) <= _NAMED:
            for one in points:
                private = 0 < one.epsilon < math.inf
                axes.annotate(
                    one.name if len(one.name) <= 24 else f"{one.name[:22]}…",
                    (one.epsilon if private else infinity, 100 * one.accuracy),
                    xytext=(-6 if not private else 6, 5),
                    textcoords="offset points",
                    ha="right" if not private else "left",
                    fontsize=8,
                )
        axes.set_xscale("log")
        low = min(finite, default=1.0)
        unprotected = len(finite) < len(points)
        # Without such runs the axis ends where they would begin.
        axes.set_xlim(
            10 ** math.floor(math.log10(low) - 0.2), infinity * 2 if unprotected else infinity / 1.5
        )
        ticks = [
            10.0**power
            for power in range(math.floor(math.log10(low) - 0.2), round(math.log10(infinity)))
        ]
        names = [f"{tick:g}" for tick in ticks]
        axes.set_xticks(
            [*ticks, infinity] if unprotected else ticks, [*names, "none"] if unprotected else names
        )
        axes.minorticks_off()
        axes.set(
            xlabel="epsilon of a sample (smaller: more private)", ylabel="held-out accuracy (%)"
        )
        axes.set_ylim(0, 103)
        figure.legend(loc="outside lower left", ncols=2)
        return figure_svg(figure, name, description="Accuracy against epsilon, run by run")
