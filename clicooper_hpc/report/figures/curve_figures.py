"""Figures of loss and accuracy over the steps."""

from __future__ import annotations

from collections.abc import Sequence

from clicooper_hpc.report.figures.inline_svg import INK, SERIES, figure_svg, new_figure
from clicooper_hpc.runstore.curves import TrainingCurves, draw_accuracy, draw_loss

__all__ = ["accuracy_figure", "loss_figure"]

_COLOURS = tuple(INK[name] for name in SERIES)
#: Inches at 72 units each: so narrow that a telephone shows labels of 9 units at their size.
_SIZE = (5.0, 3.1)
#: Above this many entries a legend needs room of its own.
_LEGEND_ROWS = 3


def loss_figure(curves: TrainingCurves, name: str) -> str:
    """Return the training loss by step as inline SVG; empty if no trainer computed one."""
    if not curves.losses:
        return ""
    with new_figure(*_SIZE) as figure:
        axes = figure.subplots()
        draw_loss(axes, curves, colours=_COLOURS)
        return figure_svg(figure, name, description="Training loss by step")


def accuracy_figure(curves: TrainingCurves, levels: Sequence[tuple[str, float]], name: str) -> str:
    """Return accuracy by step, with levels across, as inline SVG; empty if nothing was measured."""
    if not curves.accuracies and not curves.name_accuracies:
        return ""
    with new_figure(_SIZE[0], _SIZE[1] + 0.2 * max(0, len(levels) - _LEGEND_ROWS)) as figure:
        axes = figure.subplots()
        draw_accuracy(axes, curves, levels=levels, colours=_COLOURS, legend=False)
        # Below the axes: inside, it would lie on the lines it names.
        handles, labels = axes.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower left", ncols=1 if _wide(labels) else 2)
        return figure_svg(figure, name, description="Accuracy by step beside its baselines")


def _wide(labels: Sequence[str]) -> bool:
    return max(map(len, labels), default=0) > 28
