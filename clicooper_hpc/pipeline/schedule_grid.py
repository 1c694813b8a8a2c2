"""Draws a simulated step as text: one row per lane, time from left to right.

1F1B with three segments and four micro-batches, a backward as long as a forward::

    time 0 to 12
    owner      S0 S1 S2 S3
    segment 1  F0 F1 F2 ......B0 F3 B1 ...B2 ...B3
    segment 2  ...F0 F1 ...B0 F2 B1 F3 B2 ...B3 ...
    segment 3  ......F0 B0 F1 B1 F2 B2 F3 B3 ......

``F0`` is the forward and ``B0`` the backward of micro-batch 0, dots are idle time, ``S0`` is the
owner's send of release 0. An operation longer than its label is filled up with dashes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from clicooper_hpc.pipeline.schedule import Action
from clicooper_hpc.pipeline.simulator import Simulation, TimedOp, TimedSend

__all__ = ["render_schedule_grid"]

_MOST_BLOCKS = 4
_LEAST_WIDTH = 40
_IDLE = "."


def render_schedule_grid(simulation: Simulation, *, owner: bool = True, width: int = 100) -> str:
    """Return the lanes of a simulation as text.

    Time is drawn to scale, rounded to columns. Where the labels do not fit into one line the
    drawing goes on in blocks below, up to four, each headed by its range of times. A step too long
    even for that is drawn in one block, in which a lane shows the letters alone for actions too
    short for their labels.

    Parameters
    ----------
    simulation
        What to draw.
    owner
        Draw the owner's sends as the first row, each where its transfer starts or, if that place
        is taken, right after the send before it.
    width
        Longest line, in characters, >= 40.

    Returns
    -------
    str
        Lines without trailing blanks, joined by newlines.
    """
    if width < _LEAST_WIDTH:
        raise ValueError(f"a grid needs at least {_LEAST_WIDTH} columns, not {width}")
    names = [f"segment {index}" for index in range(1, len(simulation.lanes) + 1)]
    margin = max(map(len, names)) + 2
    axis = _choose_grid_axis(simulation, width - margin)
    rows = {
        name: _draw_lane(lane, axis) for name, lane in zip(names, simulation.lanes, strict=True)
    }
    if owner:
        rows = {"owner": _draw_sends(simulation.owner, axis), **rows}
    return "\n".join(_grid_lines(rows, margin, axis, simulation.makespan))


@dataclass(frozen=True, slots=True)
class _Axis:
    """How times become columns, and after how many columns a new block begins."""

    scale: float
    columns: int
    block: int

    def column(self, time: float) -> int:
        # Not round(), which sends halves to even numbers: equal durations would differ by two.
        return math.floor(time * self.scale + 0.5)

    def label_start(self, first: int, stop: int, size: int) -> int:
        """Return where in a cell its label begins: in the next block, if only there it is whole."""
        edge = (first // self.block + 1) * self.block
        return edge if edge < first + size <= edge + size <= stop else first


def _choose_grid_axis(simulation: Simulation, room: int) -> _Axis:
    drawn = [timed for lane in simulation.lanes for timed in lane if timed.end > timed.start]
    if not drawn:
        return _Axis(scale=0.0, columns=1, block=1)
    span = simulation.makespan
    tight = max(len(str(timed.op)) / (timed.end - timed.start) for timed in drawn)
    wide = max((len(str(timed.op)) + 1) / (timed.end - timed.start) for timed in drawn)
    # As few blocks as the labels fit into without gaps between them.
    blocks = math.ceil(tight * span / room)
    if blocks > _MOST_BLOCKS:
        blocks = 1
    scale = min(wide, blocks * room / span)
    columns = max(1, math.floor(span * scale + 0.5))
    return _Axis(scale, columns, math.ceil(columns / blocks))


def _draw_lane(lane: Sequence[TimedOp], axis: _Axis) -> str:
    cells = [(timed.op, axis.column(timed.start), axis.column(timed.end)) for timed in lane]
    # All forwards of a lane with labels or none: a mixture could not be read.
    labelled = {
        action: all(
            stop - first >= len(str(op)) for op, first, stop in cells if op.action is action
        )
        for action in Action
    }
    row = [_IDLE] * axis.columns
    for op, first, stop in cells:
        size = stop - first
        if labelled[op.action]:
            label = str(op)
            before = axis.label_start(first, stop, len(label)) - first
            text = ("-" * before + label).ljust(size, "-")
            if text.endswith("-"):
                text = text[:-1] + " "  # keeps neighbours apart
        else:
            text = op.action * size
        row[first:stop] = text
    return "".join(row)


def _draw_sends(sends: Sequence[TimedSend], axis: _Axis) -> str:
    row = ""
    for send in sends:
        row = row.ljust(axis.column(send.start))
        label = f"S{send.micro_batch} "
        left = axis.block - len(row) % axis.block
        row += label if len(label) <= left else " " * left + label
    # Sends take no time in the drawing but their labels do: where they run out of room, only marks
    # stay.
    if len(row) <= axis.columns:
        return row.ljust(axis.columns)
    marks = [" "] * axis.columns
    for send in sends:
        marks[min(axis.column(send.start), axis.columns - 1)] = "S"
    return "".join(marks)


def _grid_lines(rows: dict[str, str], margin: int, axis: _Axis, makespan: float) -> Iterable[str]:
    for first in range(0, axis.columns, axis.block):
        stop = min(first + axis.block, axis.columns)
        begin = first / axis.scale if first else 0.0
        end = makespan if stop == axis.columns else stop / axis.scale
        yield f"time {begin:.4g} to {end:.4g}"
        for name, row in rows.items():
            part = row[first:stop]
            if part.strip():  # the owner has nothing more to send
                yield (name.ljust(margin) + part).rstrip()
