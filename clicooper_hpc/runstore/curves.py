"""Loss and accuracy of a run over its steps: as plain arrays, and drawn with matplotlib."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from clicooper_hpc.errors import EnvironmentUnfitError
from clicooper_hpc.runstore.quiet_matplotlib import quiet_matplotlib

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["TrainingCurves", "collect_curves", "draw_accuracy", "draw_loss", "plot_curves"]

Numbers = NDArray[np.float64]
#: Points of a line beyond which neighbours are averaged: more than a screen can show.
MOST_POINTS: Final = 300
_MOST_VALUE: Final = 1e100
_COLOURS: Final = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#a52a2a", "#e69f00")
_DASHES: Final = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)), (0, (8, 3)))


@dataclass(frozen=True, slots=True)
class TrainingCurves:
    """Curves of one run; a curve is a pair of arrays float64 [points]: step, value.

    Attributes
    ----------
    losses
        Mean loss in nat, by trainer; only trainers that compute one.
    name_accuracies
        Share of released names (sub-labels) predicted rightly, by trainer.
    accuracies
        Accuracy of the composed model on held-out samples, by kind of samples.
    averaged
        Steps that make one point of a curve, 1 if none were averaged.
    """

    losses: Mapping[int, tuple[Numbers, Numbers]]
    name_accuracies: Mapping[int, tuple[Numbers, Numbers]]
    accuracies: Mapping[str, tuple[Numbers, Numbers]]
    averaged: int


def collect_curves(
    training: Mapping[int, Any], evaluation: Any, *, most: int = MOST_POINTS
) -> TrainingCurves:
    """Return the curves of the tables ``training`` by rank and ``evaluation`` (None: not there).

    Frames as `clicooper_hpc.runstore.reader.Run.table` returns them. Of more than ``most`` steps
    neighbours are averaged.
    """
    averaged = max([1, *(-(-len(frame) // most) for frame in training.values())])
    curves: dict[str, dict[int, tuple[Numbers, Numbers]]] = {"loss": {}, "sub_label_accuracy": {}}
    for rank, frame in training.items():
        for column, found in curves.items():
            curve = _finite_points(frame, column, averaged)
            if len(curve[0]):
                found[rank] = curve
    accuracies = {}
    if evaluation is not None:
        for column, kind in (("clean_accuracy", "clean"), ("released_accuracy", "released")):
            curve = _finite_points(evaluation, column, 1)
            if len(curve[0]):
                accuracies[kind] = curve
    return TrainingCurves(curves["loss"], curves["sub_label_accuracy"], accuracies, averaged)


def draw_loss(axes: Axes, curves: TrainingCurves, *, colours: Sequence[str] = _COLOURS) -> None:
    """Draw the loss of every trainer that computes one."""
    lines = {f"trainer {rank}": curve for rank, curve in curves.losses.items()}
    _draw_lines(axes, lines, colours)
    if len(lines) > 1:
        axes.legend()
    axes.set(xlabel="step", ylabel="training loss (nat)", xlim=(0, None), ylim=(0, None))


def draw_accuracy(
    axes: Axes,
    curves: TrainingCurves,
    *,
    levels: Iterable[tuple[str, float]] = (),
    colours: Sequence[str] = _COLOURS,
    legend: bool = True,
) -> None:
    """Draw accuracies in percent, and a line across for each level (name, share in [0, 1])."""
    lines = {
        f"training names, trainer {rank}": (steps, 100 * values)
        for rank, (steps, values) in curves.name_accuracies.items()
    }
    _draw_lines(axes, lines, colours)
    for place, (kind, (steps, values)) in enumerate(curves.accuracies.items()):
        colour = colours[(len(lines) + place) % len(colours)]
        label = f"held-out samples, {kind}"
        axes.plot(steps, 100 * values, "o-", color=colour, label=label, markersize=5, zorder=3)
    first = len(lines) + len(curves.accuracies)
    for place, (name, share) in enumerate(levels, first):
        axes.axhline(
            100 * share,
            color=colours[place % len(colours)],
            linestyle=_DASHES[place % (len(_DASHES) - 1) + 1],
            linewidth=1.2,
            label=name,
        )
    axes.set(xlabel="step", ylabel="right (%)", xlim=(0, None), ylim=(0, 103))
    if legend and axes.get_legend_handles_labels()[0]:
        axes.legend()


def plot_curves(training: Mapping[int, Any], evaluation: Any) -> tuple[Axes, Axes]:
    """Return axes of loss and accuracy in a new figure; tables as for `collect_curves`.

    Raises
    ------
    EnvironmentUnfitError
        Without matplotlib.
    """
    try:
        # Figure alone, without pyplot: no window and no global state.
        with quiet_matplotlib():
            from matplotlib.figure import Figure
    except ImportError as error:
        raise EnvironmentUnfitError(
            "plots need matplotlib", remedy='Install it: pip install "clicooper-hpc[report]"'
        ) from error

    class ShownFigure(Figure):
        """A figure that a notebook shows; plain ones it shows only where pyplot is loaded."""

        def _repr_png_(self) -> bytes:
            file = io.BytesIO()
            self.savefig(file, format="png", dpi=144)
            return file.getvalue()

    loss, accuracy = ShownFigure(figsize=(9.0, 3.2), layout="constrained").subplots(1, 2)
    curves = collect_curves(training, evaluation)
    draw_loss(loss, curves)
    draw_accuracy(accuracy, curves)
    return loss, accuracy


def _draw_lines(
    axes: Axes, lines: Mapping[str, tuple[Numbers, Numbers]], colours: Sequence[str]
) -> None:
    for place, (label, (steps, values)) in enumerate(lines.items()):
        dashes: Any = _DASHES[place % len(_DASHES)]
        colour = colours[place % len(colours)]
        axes.plot(steps, values, color=colour, linestyle=dashes, label=label)


def _finite_points(frame: Any, column: str, averaged: int) -> tuple[Numbers, Numbers]:
    """Return steps and means of ``averaged`` neighbours, without points that are no numbers."""
    steps = np.asarray(frame["step"], dtype=np.float64)
    values = np.asarray(frame[column], dtype=np.float64)
    # A diverging run is drawn as far as an axis can be.
    known = np.abs(values) <= _MOST_VALUE
    steps, values = steps[known], values[known]
    if averaged > 1 and len(values):
        starts = np.arange(0, len(values), averaged)
        counts = np.diff(np.append(starts, len(values)))
        steps = np.add.reduceat(steps, starts) / counts
        values = np.add.reduceat(values, starts) / counts
    return steps, values
