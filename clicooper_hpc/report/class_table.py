"""Confusion matrix of a run for the page, as a table or, of many classes, as a plot with tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from clicooper_hpc.report.figures.confusion_figure import (
    MOST_PLOTTED,
    confusion_figure,
    filling_levels,
)
from clicooper_hpc.report.numbers import percent_text
from clicooper_hpc.report.run_reading import RunReading
from clicooper_hpc.runstore.confusion_file import ClassFigures, read_class_figures

__all__ = ["ClassName", "ClassRow", "ClassTable", "read_class_table"]

#: Classes whose counts are written into the cells of a table.
_MOST_WRITTEN = 20
_ERRORS = 15
_SHORT = 14
#: Steps in which a cell is filled.
_LEVELS = 4


@dataclass(frozen=True, slots=True)
class ClassName:
    """Name of a class in full, and as short as a column needs it."""

    whole: str
    short: str


@dataclass(frozen=True, slots=True)
class ClassRow:
    """One class: number, name, test samples, and its shares as text."""

    number: int
    name: ClassName
    samples: int
    recall: str
    precision: str


@dataclass(frozen=True, slots=True)
class ClassTable:
    """What the page shows of the classes of one run.

    Attributes
    ----------
    sentence
        Balanced accuracy beside accuracy, largest class and guessing.
    names
        In order.
    rows
        By number; where there are no cells, lowest recall first.
    cells
        Count and filling level (0 to 4) of every cell, row by row; empty for many classes.
    plot
        SVG in place of cells.
    errors
        The most frequent ones: true class, predicted class, count.
    majority_share
        Share of the largest class; None without samples.
    """

    sentence: str
    names: Sequence[ClassName]
    rows: Sequence[ClassRow]
    cells: Sequence[Sequence[tuple[int, int]]]
    plot: str
    errors: Sequence[tuple[str, str, int]]
    majority_share: float | None


def read_class_table(reading: RunReading, key: str) -> ClassTable | None:
    """Return the classes of ``reading``'s run; None if nothing is kept of them.

    ``key`` begins the ids of the plot.
    """
    figures = reading.attempt("counts by class", lambda: read_class_figures(reading.run))
    if figures is None:
        return None
    if len(figures.class_names) > MOST_PLOTTED:
        reading.add_gap(f"counts by class: at most {MOST_PLOTTED} classes are shown")
        return None
    return _class_table(figures, reading, key)


def _class_table(figures: ClassFigures, reading: RunReading, key: str) -> ClassTable:
    confusion = figures.confusion
    counts = confusion.counts
    names = [_class_name(reading.public.line(name)) for name in figures.class_names]
    rows = [
        ClassRow(number, name, int(samples), percent_text(recall), percent_text(precision))
        for number, (name, samples, recall, precision) in enumerate(
            zip(
                names,
                counts.sum(axis=1).tolist(),
                confusion.recalls.tolist(),
                confusion.precisions.tolist(),
                strict=True,
            )
        )
    ]
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    levels = filling_levels(shares, _LEVELS)
    written = len(names) <= _MOST_WRITTEN
    if not written:
        # Stable, and classes without samples last: NaN sorts behind all numbers.
        rows = [rows[number] for number in np.argsort(confusion.recalls, kind="stable")]
    return ClassTable(
        sentence=(
            f"{confusion.right:,} of {confusion.samples:,} clean test samples are named rightly, "
            f"{percent_text(confusion.right / max(1, confusion.samples))}. The mean over classes "
            f"(balanced accuracy) is {percent_text(confusion.balanced_accuracy)}; always answering "
            f"the largest class gives {percent_text(confusion.majority_share)}, guessing "
            f"{percent_text(confusion.chance)}."
        ),
        names=names,
        rows=rows,
        cells=[
            list(zip(row, filled, strict=True))
            for row, filled in zip(counts.tolist(), levels.tolist(), strict=True)
        ]
        if written
        else [],
        plot="" if written else confusion_figure(shares, key),
        errors=[
            (names[true].whole, names[said].whole, count)
            for true, said, count in confusion.worst_confusions(_ERRORS)
        ],
        majority_share=confusion.majority_share if confusion.samples else None,
    )


def _class_name(name: str) -> ClassName:
    return ClassName(name, name if len(name) <= _SHORT else f"{name[: _SHORT - 1]}…")
