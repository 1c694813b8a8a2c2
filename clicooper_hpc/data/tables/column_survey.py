"""`ColumnSurvey`: what one column of a table holds, found in one pass; the kind that follows."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from clicooper_hpc.data.tables.table_column import ColumnCells, parse_number
from clicooper_hpc.data.tables.table_mapping import ColumnKind
from clicooper_hpc.errors import DataError

__all__ = ["READABLE_KINDS", "ColumnSurvey", "column_kind"]

#: Kinds of columns whose cells can be read; others are names of types.
READABLE_KINDS = ("cells", "number", "boolean", "text", "empty")

#: Share of cells that are numbers above which a column is meant to be one of numbers.
_MOSTLY = 0.9
#: Whole numbers up to here are exact in float32.
_EXACT = 2**24


@dataclass(slots=True)
class ColumnSurvey:
    """What was met in a column so far, in all files.

    ``first_missing``, ``first_text``: row and, of a cell that is no number, its text.
    """

    name: str
    source: str
    rows: int = 0
    missing: int = 0
    numbers: int = 0
    truths: int = 0
    first_missing: str | None = None
    first_text: tuple[str, str] | None = None
    inexact: int = 0
    lowest: float = field(default=np.inf)
    highest: float = field(default=-np.inf)

    @property
    def present(self) -> int:
        """Cells with a value."""
        return self.rows - self.missing

    def add_cells(self, cells: ColumnCells) -> None:
        """Look at a batch of cells."""
        absent = cells.missing()
        self.rows += len(absent)
        self.missing += int(absent.sum())
        if self.first_missing is None and absent.any():
            self.first_missing = f"{cells.where}, row {cells.first_row + int(absent.argmax())}"
        if cells.kind == "number":
            self.numbers += int((~absent).sum())
            self._add_numbers(cells.numbers())
        elif cells.kind == "cells":
            self._add_texts(cells)

    def _add_numbers(self, numbers: np.ndarray) -> None:
        present = numbers[~np.isnan(numbers)]
        if not len(present):
            return
        self.lowest = min(self.lowest, float(present.min()))
        self.highest = max(self.highest, float(present.max()))
        large = present[(np.abs(present) > _EXACT) & (present == np.floor(present))]
        with np.errstate(over="ignore"):
            self.inexact += int((large.astype(np.float32).astype(np.float64) != large).sum())

    def _add_texts(self, cells: ColumnCells) -> None:
        codes, texts = cells.coded_texts()
        parsed = [parse_number(text, cells.cells.decimal) for text in texts]
        counts = np.bincount(codes[codes >= 0], minlength=len(texts))
        truths = np.asarray([text.lower() in ("true", "false") for text in texts], dtype=bool)
        good = np.asarray([value is not None for value in parsed], dtype=bool)
        self.truths += int(counts[truths].sum())
        self.numbers += int(counts[good].sum())
        odd = np.flatnonzero(~good & ~truths)
        if self.first_text is None and len(odd):
            row = cells.first_row + int(np.flatnonzero(codes == odd[0])[0])
            self.first_text = (f"{cells.where}, row {row}", texts[odd[0]])
        values = np.asarray([np.nan if one is None else one for one in parsed] + [np.nan])
        self._add_numbers(values[codes][np.isfinite(values[codes])])


def column_kind(survey: ColumnSurvey, *, categorical: bool, decimal: str) -> ColumnKind | None:
    """Return the kind of a column, None for one without any value.

    Parameters
    ----------
    categorical
        The user says that it holds categories.
    decimal
        Sign of numbers in text cells.

    Raises
    ------
    DataError
        It is of a type that is no feature (dates, lists, binary), or numbers but for a few cells.
    """
    if survey.source not in READABLE_KINDS:
        dates = survey.source.startswith(("timestamp", "date", "time", "duration"))
        raise DataError(
            f"is of type {survey.source[:80]}, which is no feature",
            where=survey.name,
            remedy=(
                "Make a number or categories of it, such as days or the weekday"
                if dates
                else "Make numbers or texts of it, one column each"
            )
            + ", or leave it out (--leave-out COLUMN)",
        )
    if not survey.present:
        return None
    if categorical:
        return "category"
    if survey.source in ("number", "boolean"):
        return "number" if survey.source == "number" else "boolean"
    if survey.source == "text":
        return "category"
    if survey.truths == survey.present:
        return "boolean"
    if survey.numbers == survey.present:
        return "number"
    if survey.numbers > _MOSTLY * survey.present and survey.first_text is not None:
        where, text = survey.first_text
        comma = decimal == "." and parse_number(text, ",") is not None
        raise DataError(
            f"says {text[:60]!r}, and {survey.numbers:,} of {survey.present:,} cells of this "
            "column are numbers",
            where=where,
            remedy="Give --decimal ,"
            if comma
            else "If it stands for no value, give --null with "
            "this text; if the column holds categories, name it with --categorical",
        )
    if decimal == "." and survey.first_text and parse_number(survey.first_text[1], ",") is not None:
        where, text = survey.first_text
        raise DataError(
            f"{text[:60]!r} looks like a number with a decimal comma",
            where=where,
            remedy="Give --decimal , (and --delimiter ';' where that is the sign between cells), "
            "or name the column with --categorical",
        )
    return "category"
