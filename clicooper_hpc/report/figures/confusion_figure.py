"""A confusion matrix of many classes as SVG: one square for every count that is not 0."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray

__all__ = ["MOST_PLOTTED", "confusion_figure", "filling_levels"]

#: Classes up to which a matrix is drawn: a square each for a thousand times a thousand cells would
#: make a page that no browser scrolls.
MOST_PLOTTED = 1000
_LEVELS = 8
#: Units of the drawing: its inner side, and the margin for numbers.
_SIDE, _MARGIN = 400.0, 34.0


def filling_levels(shares: NDArray[np.float64], most: int) -> NDArray[np.int64]:
    """Return how strongly cells of shares [K, K] are filled: 0 of nothing, else 1 to ``most``.

    By the square root, for errors are small shares, and are to be told from each other.
    """
    levels: NDArray[np.int64] = np.ceil(np.sqrt(shares) * most).astype(np.int64)
    return levels


def confusion_figure(shares: NDArray[np.float64], key: str) -> str:
    """Return SVG of shares [K, K] of rows; ``key`` begins its id.

    Colours are the page's own, so that one drawing serves light, dark and print.
    """
    classes = len(shares)
    side = _SIDE / classes
    levels = filling_levels(shares, _LEVELS)
    right = np.eye(classes, dtype=bool)
    whole = _SIDE + _MARGIN
    drawn = io.StringIO()
    drawn.write(
        f'<svg id="{key}" role="img" aria-label="Confusion matrix of {classes} classes" '
        f'viewBox="0 0 {whole + 4:g} {whole + 4:g}" xmlns="http://www.w3.org/2000/svg">'
        f'<rect x="{_MARGIN:g}" y="{_MARGIN:g}" width="{_SIDE:g}" height="{_SIDE:g}" '
        'fill="none" stroke="var(--grid)"/>'
    )
    for colour, cells in (("orange", ~right), ("blue", right)):
        for level in range(1, _LEVELS + 1):
            rows, columns = np.nonzero((levels == level) & cells)
            if len(rows):
                path = "".join(
                    f"M{column} {row}h1v1h-1z"
                    for row, column in zip(rows.tolist(), columns.tolist(), strict=True)
                )
                drawn.write(
                    f'<path transform="translate({_MARGIN:g} {_MARGIN:g}) scale({side:.6g})" '
                    f'fill="var(--{colour})" fill-opacity="{level / _LEVELS:.2f}" '
                    f'd="{path}"/>'
                )
    step = max(1, 10 ** len(str(classes - 1)) // 10)
    for number in range(0, classes, step if classes / step <= 20 else 2 * step):
        place, beside = _MARGIN + (number + 0.5) * side, _MARGIN - 6
        for x, y, anchor in ((place, beside, "middle"), (beside, place + 4, "end")):
            drawn.write(
                f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="11" '
                f'fill="var(--muted)">{number}</text>'
            )
    drawn.write("</svg>")
    return drawn.getvalue()
