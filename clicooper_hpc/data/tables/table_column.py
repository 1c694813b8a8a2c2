"""`ColumnCells`: the cells of one column of one batch, as numbers or as texts."""

from __future__ import annotations

import importlib
import math
import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from clicooper_hpc.data.tables.table_mapping import CellFormat
from clicooper_hpc.errors import DataError

__all__ = ["ColumnCells", "SourceKind", "parse_number", "whole_number"]

SourceKind = Literal["cells", "number", "boolean", "text", "empty"]

_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_INFINITE = re.compile(r"[+-]?inf(inity)?", re.IGNORECASE)
_TRUTH = {"true": True, "false": False}


def parse_number(text: str, decimal: str) -> float | None:
    """Return the number that a cell says, None if it says none; "inf" is infinite."""
    if decimal == ",":
        # A point would be a mark of thousands, which no rule can tell from a decimal one.
        text = text.replace(".", "?").replace(",", ".")
    if _NUMBER.fullmatch(text) or _INFINITE.fullmatch(text):
        return float(text)
    return None


def whole_number(text: str, decimal: str) -> int | None:
    """Return the whole number that a cell says, to the last digit; None if it says none."""
    number = parse_number(text, decimal)
    if number is None or not number.is_integer():
        return None
    # Not of the float: from 2**53 on, several whole numbers share one.
    return int(Decimal(text.replace(decimal, ".")))


@dataclass(frozen=True, slots=True)
class ColumnCells:
    """Cells ``first_row``, ``first_row`` + 1, ... of a column.

    Attributes
    ----------
    array
        pyarrow's array of them.
    kind
        A `SourceKind`.
    where
        Table and column, for messages.
    """

    array: Any
    kind: str
    where: str
    first_row: int
    cells: CellFormat

    def coded_texts(self) -> tuple[NDArray[np.int64], list[str]]:
        """Return (number of the text of each cell, -1 for none; the different texts).

        Numbers are texts as they are written, whole ones without a point; truths are "true" and
        "false". Blanks around the cells of a CSV file are dropped.
        """
        compute: Any = importlib.import_module("pyarrow.compute")
        array = self.array
        encoded = array if hasattr(array, "indices") else array.dictionary_encode()
        codes = np.asarray(
            compute.fill_null(encoded.indices, -1).to_numpy(zero_copy_only=False), dtype=np.int64
        )
        values = encoded.dictionary.to_pylist()
        texts = [self._as_text(value) for value in values]
        # Different values may be one text, or none; the last place stands for no value.
        places = {text: place for place, text in enumerate(dict.fromkeys(filter(None, texts)))}
        lookup = np.asarray([places.get(text or "", -1) for text in texts] + [-1], dtype=np.int64)
        return lookup[codes], list(places)

    def numbers(self) -> NDArray[np.float64]:
        """Return the numbers, NaN where there is no value; truths are 0 and 1.

        Raises
        ------
        DataError
            Naming the row: a cell is not a number, or infinite.
        """
        if self.kind == "number":
            out = self._cast_numbers()
        else:
            codes, texts = self.coded_texts()
            values = [self._parse(text) for text in texts]
            for place, value in enumerate(values):
                if value is None:
                    row = self.first_row + int(np.flatnonzero(codes == place)[0])
                    raise DataError(
                        f"{texts[place][:60]!r} is no number",
                        where=f"{self.where}, row {row}",
                        remedy=self._remedy(texts[place]),
                    )
            out = np.asarray([*values, math.nan], dtype=np.float64)[codes]
        infinite = np.flatnonzero(np.isinf(out))
        if len(infinite):
            raise DataError(
                "the number is infinite",
                where=f"{self.where}, row {self.first_row + int(infinite[0])}",
                remedy="Replace it, or leave the cell empty and state what is done about that",
            )
        return out

    def missing(self) -> NDArray[np.bool_]:
        """Return which cells have no value, NaN among them."""
        if self.kind == "number":
            return np.isnan(self._cast_numbers())
        return self.coded_texts()[0] < 0

    def _cast_numbers(self) -> NDArray[np.float64]:
        pyarrow: Any = importlib.import_module("pyarrow")
        array = self.array.dictionary_decode() if hasattr(self.array, "indices") else self.array
        # Unsafe: whole numbers above 2**53 are rounded, as all numbers are to float32 later on.
        wide = array.cast(pyarrow.float64(), safe=False)
        return np.array(wide.to_numpy(zero_copy_only=False), dtype=np.float64)

    def _parse(self, text: str) -> float | None:
        truth = _TRUTH.get(text.lower())
        return parse_number(text, self.cells.decimal) if truth is None else float(truth)

    def _remedy(self, text: str) -> str:
        if self.cells.decimal == "." and parse_number(text, ",") is not None:
            return "Give --decimal ,"
        return "If it stands for no value, give --null with this text"

    def _as_text(self, value: object) -> str | None:
        if value is None or value != value:
            return None
        if isinstance(value, bool):
            return str(value).lower()
        if isinstance(value, Decimal):
            # Not by way of a float, which has fewer digits.
            return str(int(value)) if value == value.to_integral_value() else str(value)
        if isinstance(value, float):
            return str(int(value)) if value.is_integer() else str(value)
        text = str(value)
        if self.kind != "cells":
            return text
        inner = text.strip()
        # A text with blanks around it escaped the reader's own comparison.
        if not inner or (inner != text and inner in self.cells.nulls):
            return None
        return inner
