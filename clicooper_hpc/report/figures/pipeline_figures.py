"""Figures of the pipeline: where the time of each rank went, and one computed step as a Gantt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from clicooper_hpc.pipeline.schedule import Action
from clicooper_hpc.pipeline.simulator import Simulation
from clicooper_hpc.report.figures.inline_svg import INK, figure_svg, new_figure
from clicooper_hpc.report.step_times import ACTIVITIES, RankTimes

__all__ = ["MOST_BARS", "step_figure", "time_figure"]

#: Ranks that one figure shows.
MOST_BARS: Final = 48
_WIDTH: Final = 5.0
_ROW: Final = 0.34
#: Colour and hatch: one can be told without the other.
_LOOKS: Final = {
    "forward": ("blue", ""),
    "backward": ("orange", "////"),
    "optimizer": ("green", "||||"),
    "waiting to receive": ("grid", ""),
    "waiting to send": ("sky", "xxxx"),
    "other": ("muted", ""),
}
#: Share of the step below which an operation has no room for its name.
_LEAST_NAMED: Final = 0.045


def time_figure(times: Sequence[RankTimes], name: str) -> str:
    """Return a bar for each rank, of its shares of the step time, as inline SVG; empty for none."""
    shown = times[:MOST_BARS]
    if not shown:
        return ""
    with new_figure(_WIDTH, 1.25 + _ROW * len(shown)) as figure:
        axes = figure.subplots()
        places = range(len(shown))
        left = [0.0] * len(shown)
        for activity in ACTIVITIES:
            shares = [100 * one.share(activity) for one in shown]
            colour, hatch = _LOOKS[activity]
            axes.barh(
                places,
                shares,
                left=left,
                height=0.72,
                color=INK[colour],
                edgecolor=INK["paper"],
                linewidth=0.6,
                hatch=hatch,
                label=activity,
            )
            left = [a + b for a, b in zip(left, shares, strict=True)]
        axes.set_yticks(places, [one.label for one in shown])
        axes.invert_yaxis()
        axes.set(xlabel="share of step time (%)", xlim=(0, 100))
        axes.grid(visible=False, axis="y")
        figure.legend(loc="outside lower left", ncols=3)
        return figure_svg(figure, name, description="Shares of step time by rank")


def step_figure(step: Simulation, name: str) -> str:
    """Return the lanes of a computed step as inline SVG; empty if it takes no time."""
    if not step.makespan > 0:
        return ""
    lanes = step.lanes[:MOST_BARS]
    with new_figure(_WIDTH, 0.95 + _ROW * len(lanes)) as figure:
        axes = figure.subplots()
        for place, lane in enumerate(lanes):
            # No hatch here: numbers stand on these bars.
            for action, colour in ((Action.FORWARD, "blue"), (Action.BACKWARD, "orange")):
                spans = [
                    (1000 * one.start, 1000 * (one.end - one.start))
                    for one in lane
                    if one.op.action is action
                ]
                axes.broken_barh(
                    spans,
                    (place - 0.36, 0.72),
                    facecolor=INK[colour],
                    edgecolor=INK["paper"],
                    linewidth=0.6,
                    label={"F": "forward", "B": "backward"}[action] if place == 0 else None,
                )
            for one in lane:
                if one.end - one.start >= _LEAST_NAMED * step.makespan:
                    axes.text(
                        500 * (one.start + one.end),
                        place,
                        str(one.op.micro_batch),
                        ha="center",
                        va="center",
                        fontsize=8,
                        fontweight="bold",
                        color=INK["on-fill"],
                    )
        axes.set_yticks(range(len(lanes)), [f"trainer {i}" for i in range(1, len(lanes) + 1)])
        axes.invert_yaxis()
        axes.set(xlabel="time (ms)", xlim=(0, 1000 * step.makespan))
        axes.grid(visible=False, axis="y")
        figure.legend(loc="outside lower left", ncols=2)
        return figure_svg(figure, name, description="One computed step of the pipeline")
