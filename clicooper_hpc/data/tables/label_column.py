"""Classes of a table: the different values of its label column, in order, with a stated rule."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from clicooper_hpc.data.class_labels import MAX_CLASSES
from clicooper_hpc.data.tables.table_column import ColumnCells, parse_number, whole_number
from clicooper_hpc.errors import DataError

__all__ = ["LabelColumn", "describe_classes"]

#: Of whole numbers: from so many different ones, with fewer rows each, they are measured values.
_MANY, _FEW_ROWS = 20, 10


class LabelColumn:
    """Collects the labels of all rows, as numbers of the different texts met so far.

    Parameters
    ----------
    name
        Of the column.
    decimal
        Sign of numbers in text cells.
    """

    def __init__(self, name: str, decimal: str) -> None:
        self.name = name
        self._decimal = decimal
        self._places: dict[str, int] = {}

    def add_labels(self, cells: ColumnCells) -> NDArray[np.int64]:
        """Return the place of each label among the texts met so far, -1 for no label."""
        codes, texts = cells.coded_texts()
        for text in texts:
            self._places.setdefault(text, len(self._places))
        if len(self._places) > MAX_CLASSES:
            raise DataError(
                f"has more than {MAX_CLASSES:,} different values: it is no column of classes",
                where=cells.where,
            )
        return np.asarray([*(self._places[text] for text in texts), -1], dtype=np.int64)[codes]

    def sorted_classes(self, rows: int, where: str) -> tuple[tuple[str, ...], NDArray[np.int64]]:
        """Return (names of the classes in order, class of each place).

        Texts are sorted as texts, whole numbers by size; a class is named by its text.

        Parameters
        ----------
        rows
            With a label.

        Raises
        ------
        DataError
            The labels are measured values, which would be regression.
        """
        texts = list(self._places)
        numbers = [parse_number(text, self._decimal) for text in texts]
        if not texts or any(number is None for number in numbers):
            names = tuple(sorted(texts))
            return names, _places_among(names, texts)
        values = [whole_number(text, self._decimal) for text in texts]
        broken = next(
            (text for text, value in zip(texts, values, strict=True) if value is None), None
        )
        count = len(set(numbers))
        if broken is not None or (count > _MANY and rows < _FEW_ROWS * count):
            shown = f", such as {broken[:40]}" if broken is not None else ""
            raise DataError(
                f"the label holds {count:,} different numbers{shown} in {rows:,} rows: "
                "regression is not supported",
                where=f"{where}, column {self.name!r}",
                remedy="Sort the numbers into classes (such as low and high) and store these",
            )
        whole = sorted({value for value in values if value is not None})
        return tuple(map(str, whole)), _places_among(whole, values)


def _places_among(ordered: Sequence[object], wanted: Sequence[object]) -> NDArray[np.int64]:
    places = {one: place for place, one in enumerate(ordered)}
    return np.asarray([places[one] for one in wanted], dtype=np.int64)


def describe_classes(names: Sequence[str], counts: NDArray[np.int64]) -> str:
    """Return the rule that made classes of labels, with the classes, in a line."""
    shown = ", ".join(f"{n[:40]} ({c:,})" for n, c in zip(names[:10], counts, strict=False))
    more = f" and {len(names) - 10} more" if len(names) > 10 else ""
    return f"classes 0 to {len(names) - 1}, by training rows: {shown}{more}"
