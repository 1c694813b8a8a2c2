"""Counts by class of a run as text of 80 columns or so, for `clicooper inspect --classes`."""

from __future__ import annotations

import numpy as np

from clicooper_hpc.printable import printable_text
from clicooper_hpc.runstore.confusion_file import ClassFigures

__all__ = ["class_lines"]

#: Classes whose matrix fits into a terminal; of more the extremes are shown.
_MOST = 12
_EXTREMES = 10
_WIDTH = 24


def class_lines(figures: ClassFigures | None) -> list[str]:
    """Return the lines; of None one that says that nothing is kept."""
    if figures is None:
        return [
            "by class: nothing is kept (no private/ here, a run without an end, or one of an "
            "earlier version)"
        ]
    confusion = figures.confusion
    names = [_short(name) for name in figures.class_names]
    right = confusion.right / max(1, confusion.samples)
    lines = [
        f"by class, {confusion.samples:,} clean test samples (from private/, for the owner alone):",
        f"accuracy {_percent(right)}, balanced {_percent(confusion.balanced_accuracy)}, largest "
        f"class {_percent(confusion.majority_share)}, guessing {_percent(confusion.chance)}",
    ]
    if len(names) <= _MOST:
        return [*lines, *_matrix(figures, names)]
    samples = confusion.counts.sum(axis=1)
    order = np.argsort(confusion.recalls, kind="stable")[:_EXTREMES].tolist()
    lines += [f"lowest recall of {len(names)} classes:"]
    lines += [
        f"  {names[number]:<{_WIDTH}} {_percent(confusion.recalls[number]):>8}, precision "
        f"{_percent(confusion.precisions[number]):>8}, {samples[number]:,} samples"
        for number in order
    ]
    lines += ["most frequent errors:"]
    lines += [
        f"  {names[true]:<{_WIDTH}} taken for {names[said]:<{_WIDTH}} {count:>6,}"
        for true, said, count in confusion.worst_confusions(_EXTREMES)
    ]
    return lines


def _matrix(figures: ClassFigures, names: list[str]) -> list[str]:
    counts, confusion = figures.confusion.counts, figures.confusion
    first = max(len("true, predicted:"), *map(len, names))
    # A column is as wide as its longest count or, up to 6 letters, its name.
    widths = [
        max(3, min(6, len(name)), len(str(int(counts[:, column].max()))))
        for column, name in enumerate(names)
    ]

    def line(title: str, cells: list[str], last: str) -> str:
        columns = zip(cells, widths, strict=True)
        shown = " ".join(f"{cell[:width]:>{width}}" for cell, width in columns)
        return f"{title:<{first}} {shown}  {last:>7}"

    lines = [line("true, predicted:", names, "recall")]
    lines += [
        line(name, [str(one) if one else "." for one in row], _percent(recall))
        for name, row, recall in zip(names, counts.tolist(), confusion.recalls, strict=True)
    ]
    precisions = ["-" if np.isnan(one) else f"{100 * one:.0f}" for one in confusion.precisions]
    return [*lines, line("precision, %", precisions, "")]


def _short(name: str) -> str:
    shown = printable_text(name)
    return shown if len(shown) <= _WIDTH else f"{shown[: _WIDTH - 1]}…"


def _percent(share: float) -> str:
    return "-" if np.isnan(share) else f"{100 * share:.1f} %"
