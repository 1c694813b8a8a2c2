"""Figure of several runs: accuracy against epsilon, runs without privacy apart on the right."""

from __future__ import annotations

import math
from collections.abc import Sequence

from clicooper_hpc.report.figures.inline_svg import INK, figure_svg, new_figure
from clicooper_hpc.report.several_runs import PrivacyPoint

__all__ = ["privacy_accuracy_figure"]

#: Points up to which each has its name beside it.
_NAMED = 8
#: Characters of a name that are shown there; the tables have it whole.
_LENGTH = 24


def privacy_accuracy_figure(points: Sequence[PrivacyPoint], name: str) -> str:
    """Return accuracy against epsilon as inline SVG; empty without points."""
    if not points:
        return ""
    private = [one for one in points if one.epsilon < math.inf]
    others = [one for one in points if one.epsilon == math.inf]
    powers = [math.log10(one.epsilon) for one in private] or [0.0]
    first, last = math.floor(min(powers) - 0.2), math.floor(max(powers)) + 1
    # No axis has a place for infinity: one step of ten to the right of all others.
    places = {one: one.epsilon for one in private} | dict.fromkeys(others, 10.0 ** (last + 1))
    ticks = {10.0**power: f"{10.0**power:g}" for power in range(first, last + 1)}
    if others:
        ticks[10.0 ** (last + 1)] = "none"
    with new_figure(5.0, 3.2) as figure:
        axes = figure.subplots()
        axes.set_xscale("log")
        for label, colour, marker, chosen in (
            ("with privacy", "blue", "o", private),
            ("without privacy", "orange", "s", others),
        ):
            if chosen:
                axes.plot(
                    [places[one] for one in chosen],
                    [100 * one.accuracy for one in chosen],
                    marker,
                    color=INK[colour],
                    label=label,
                    markersize=6,
                )
        for one, place in places.items() if len(places) <= _NAMED else ():
            # Names run towards the middle, where there is room for them.
            right = 2 * math.log10(place) > first + last + bool(others)
            axes.annotate(
                one.name if len(one.name) <= _LENGTH else f"{one.name[: _LENGTH - 1]}…",
                (place, 100 * one.accuracy),
                xytext=(-6 if right else 6, 5),
                textcoords="offset points",
                ha="right" if right else "left",
                fontsize=8,
            )
        axes.set_xlim(10.0**first, 2 * max(ticks) if others else 10.0**last)
        axes.set_xticks(list(ticks), list(ticks.values()))
        axes.minorticks_off()
        axes.set(
            xlabel="epsilon of a sample (smaller: more private)",
            ylabel="held-out accuracy (%)",
            ylim=(0, 103),
        )
        figure.legend(loc="outside lower left", ncols=2)
        return figure_svg(figure, name, description="Accuracy against epsilon, run by run")
