"""`TableOptions`: what the user says of a table: label, splits, missing values, categories."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

import numpy as np

from clicooper_hpc.data.tables.table_mapping import PLAIN_CELLS, CellFormat, MissingPolicy
from clicooper_hpc.errors import DataError, UsageError

__all__ = ["TableOptions", "refuse_unknown_column"]

_POLICIES: tuple[MissingPolicy, ...] = ("refuse", "drop", "mean", "category")
_ENCODINGS = ("one-hot", "integer")
#: Of float32, which features are.
_LARGEST = float(np.finfo(np.float32).max)
_NONE: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class TableOptions:
    """How a table is imported.

    Attributes
    ----------
    label
        Column with the classes.
    split
        Column with "train", "validation" or "test" for each row.
    test, validation
        Further files of the same kind with the rows of these splits.
    test_share, seed
        Where neither says which rows are the test split: its share of every class, drawn by
        ``seed``. Default: 0.2.
    missing
        By column, and "" for all others, what is done about a cell without a value: "refuse",
        "drop" (the row), "mean" (of the training rows), "category" (one of its own), or a number
        that takes its place, as text. Default: refuse.
    categorical
        By column, and "" for all others, how categories become numbers: "one-hot" (default) or
        "integer". A column that is named holds categories even where all of them are numbers.
    categories
        By column its categories, in order. Default: those of the training rows, sorted.
    leave_out
        Columns that are not taken.
    cells
        Form of text cells.
    """

    label: str
    split: str | None = None
    test: Path | None = None
    validation: Path | None = None
    test_share: float | None = None
    seed: int = 0
    missing: Mapping[str, str] = field(default_factory=lambda: _NONE)
    categorical: Mapping[str, str] = field(default_factory=lambda: _NONE)
    categories: Mapping[str, Sequence[str]] = field(default_factory=dict)
    leave_out: Sequence[str] = ()
    cells: CellFormat = PLAIN_CELLS

    def __post_init__(self) -> None:
        if self.test_share is not None and (self.split or self.test):
            raise UsageError(
                "the test split is stated twice",
                where="--test-share",
                remedy="Give one of --split, --test and --test-share",
            )
        if self.split and (self.test or self.validation):
            raise UsageError(
                "the splits are stated twice", where="--split", remedy="Give a column or files"
            )
        if not 0 < self.share < 1:
            raise UsageError(f"{self.share:g} is not between 0 and 1", where="--test-share")
        if self.missing.get(self.label, "drop") not in ("drop", "refuse"):
            raise UsageError(
                f"{self.missing[self.label]!r} does not apply to the label",
                where="--missing",
                remedy=f"Give {self.label}=drop, to leave rows without a label out",
            )
        for column, text in self.missing.items():
            if text not in _POLICIES and _finite(text) is None:
                raise UsageError(
                    f"there is no policy {text!r}{_of(column)}",
                    where="--missing",
                    remedy=f"Use one of {', '.join(_POLICIES)}, or a number",
                )
        for column, text in self.categorical.items():
            if text not in _ENCODINGS:
                raise UsageError(
                    f"there is no encoding {text!r}{_of(column)}",
                    where="--categorical",
                    remedy=f"Use one of {', '.join(_ENCODINGS)}",
                )
        if len(self.cells.delimiter) != 1 or self.cells.delimiter in '"\r\n':
            raise UsageError(
                f"{self.cells.delimiter!r} is no single sign between cells", where="--delimiter"
            )
        if self.cells.decimal not in (".", ",") or self.cells.decimal == self.cells.delimiter:
            raise UsageError(
                f"{self.cells.decimal!r} is no decimal sign beside the delimiter "
                f"{self.cells.delimiter!r}",
                where="--decimal",
            )

    @property
    def share(self) -> float:
        """Share of every class that is held out where no column or file says which rows are."""
        return 0.2 if self.test_share is None else self.test_share

    def missing_policy(self, column: str) -> tuple[MissingPolicy, float | None]:
        """Return what is done about a missing value of ``column``, and the number put there."""
        text = self.missing.get(column, self.missing.get("", "refuse"))
        for policy in _POLICIES:
            if text == policy:
                return policy, None
        return "constant", _finite(text)

    def check_columns(self, names: Sequence[str], where: str) -> None:
        """Raise DataError if a column that is named here is none of ``names``."""
        named = [self.label, *([self.split] if self.split else []), *self.leave_out]
        for column in [*named, *self.missing, *self.categorical, *self.categories]:
            if column:
                refuse_unknown_column(column, names, where)
        if self.label in self.leave_out or self.label == self.split:
            raise UsageError(f"the label {self.label!r} is a feature or split too", where="--label")


def refuse_unknown_column(column: str, names: Sequence[str], where: str) -> None:
    """Raise DataError that names the nearest column if ``column`` is none of ``names``."""
    if column in names:
        return
    near = difflib.get_close_matches(column, names, n=1, cutoff=0.5)
    shown = ", ".join(map(repr, names[:8])) + (f" and {len(names) - 8} more" * (len(names) > 8))
    raise DataError(
        f"has no column {column!r}",
        where=where,
        remedy=f"Did you mean {near[0]!r}?" if near else f"Its columns are {shown}",
    )


def _finite(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if abs(number) <= _LARGEST else None


def _of(column: str) -> str:
    return f" (column {column!r})" if column else ""
