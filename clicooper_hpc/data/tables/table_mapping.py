"""`TableMapping`: how the columns of a table become the features of a row, as a stored value.

A data set that was imported from a table keeps it, and so does the private folder of a run: a new
table goes the same way, whatever the order of its columns.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from clicooper_hpc.errors import DataError

__all__ = [
    "MOST_BYTES",
    "PLAIN_CELLS",
    "CellFormat",
    "ColumnKind",
    "Encoding",
    "MissingPolicy",
    "TableColumn",
    "TableMapping",
]

ColumnKind = Literal["number", "boolean", "category"]
Encoding = Literal["number", "one-hot", "integer"]
MissingPolicy = Literal["refuse", "drop", "mean", "constant", "category"]

_VERSION = 1
#: Bytes of a stored mapping: what a wild file can make us read.
MOST_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class CellFormat:
    """How cells of a text file (CSV) are read.

    ``delimiter`` between cells, ``decimal`` sign of numbers, and ``nulls``: texts that stand for no
    value where they are not quoted. The empty cell always does.
    """

    delimiter: str = ","
    decimal: str = "."
    nulls: tuple[str, ...] = ("NA", "N/A", "n/a", "#N/A", "NaN", "nan", "NULL", "null")


#: Commas, decimal points, and the usual words for no value.
PLAIN_CELLS = CellFormat()


@dataclass(frozen=True, slots=True)
class TableColumn:
    """One column that is taken.

    Attributes
    ----------
    categories
        Of kind "category": its texts, in the order of their numbers or indicator features.
    missing, fill
        What is done about a cell without a value; the number that takes its place, for policies
        "mean" and "constant".
    learnt
        Whether ``categories`` or ``fill`` come from the training rows, not from the user.
    """

    name: str
    kind: ColumnKind
    encoding: Encoding
    categories: tuple[str, ...] = ()
    missing: MissingPolicy = "refuse"
    fill: float | None = None
    learnt: bool = False

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Names of its features: the column's, or COLUMN=CATEGORY for each indicator."""
        if self.encoding != "one-hot":
            return (self.name,)
        return tuple(f"{self.name}={category}" for category in self.categories)


@dataclass(frozen=True, slots=True)
class TableMapping:
    """Columns in the order of their features, name of the label's column, form of text cells."""

    columns: tuple[TableColumn, ...]
    label: str
    cells: CellFormat = PLAIN_CELLS

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Names of the D features."""
        return tuple(name for column in self.columns for name in column.feature_names)

    @property
    def indicators(self) -> tuple[bool, ...]:
        """For each feature whether it is 0 or 1 by construction."""
        return tuple(
            column.kind == "boolean" or column.encoding == "one-hot"
            for column in self.columns
            for _ in column.feature_names
        )

    def dependences(self) -> list[str]:
        """Return in words why a row may depend on training rows other than itself."""
        means = [one.name for one in self.columns if one.learnt and one.missing == "mean"]
        sets = [one.name for one in self.columns if one.learnt and one.kind == "category"]
        found = []
        if means:
            found.append(f"missing values of {_listed(means)} are means of the training rows")
        if sets:
            found.append(f"the categories of {_listed(sets)} are those of the training rows")
        return found

    def to_json(self) -> str:
        """Return the mapping as one JSON text."""
        return json.dumps({"version": _VERSION, **asdict(self)}, allow_nan=False)

    @classmethod
    def from_json(cls, text: str, where: str) -> TableMapping:
        """Read `to_json`; DataError naming ``where`` if it did not write ``text``."""
        try:
            content = json.loads(text)
            if content["version"] != _VERSION:
                raise ValueError(f"version {str(content['version'])[:20]}")
            mapping = cls(
                columns=tuple(map(_read_column, content["columns"])),
                label=_text(content["label"]),
                cells=_read_cells(content["cells"]),
            )
            if not mapping.columns or len(set(mapping.feature_names)) < len(mapping.feature_names):
                raise ValueError("features are none or repeat")
        except (LookupError, TypeError, ValueError, AttributeError, RecursionError) as error:
            raise DataError(
                f"is no mapping of a table ({str(error)[:200]})",
                where=where,
                remedy="Import the table again",
            ) from error
        return mapping


def _listed(names: list[str], most: int = 4) -> str:
    shown = ", ".join(repr(name) for name in names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


def _read_column(stored: Mapping[str, Any]) -> TableColumn:
    fill = stored["fill"]
    column = TableColumn(
        name=_text(stored["name"]),
        kind=_one_of(stored["kind"], get_args(ColumnKind)),
        encoding=_one_of(stored["encoding"], get_args(Encoding)),
        categories=tuple(map(_text, stored["categories"])),
        missing=_one_of(stored["missing"], get_args(MissingPolicy)),
        fill=None if fill is None else float(fill),
        learnt=bool(stored["learnt"]),
    )
    if (column.kind == "category") != (column.encoding != "number"):
        raise ValueError(f"{column.name!r} is {column.kind} as {column.encoding}")
    if (column.kind == "category") != bool(column.categories):
        raise ValueError(f"categories of {column.name!r}")
    filled = column.missing in ("mean", "constant")
    if filled != (column.fill is not None and math.isfinite(column.fill)):
        raise ValueError(f"fill of {column.name!r}")
    return column


def _read_cells(stored: Mapping[str, Any]) -> CellFormat:
    cells = CellFormat(
        _text(stored["delimiter"]), _text(stored["decimal"]), tuple(map(_text, stored["nulls"]))
    )
    if len(cells.delimiter) != 1 or cells.decimal not in (".", ","):
        raise ValueError("signs between cells and in numbers")
    return cells


def _text(stored: object) -> str:
    if not isinstance(stored, str):
        raise TypeError(f"{str(stored)[:40]!r} is no text")
    return stored


def _one_of(stored: object, allowed: tuple[Any, ...]) -> Any:
    if stored not in allowed:
        raise ValueError(f"{str(stored)[:40]!r} is none of {', '.join(allowed)}")
    return stored
