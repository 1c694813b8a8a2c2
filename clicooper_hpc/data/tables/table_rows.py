"""Rows of numbers from the cells of a table, by its mapping."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from clicooper_hpc.data.tables.table_column import ColumnCells
from clicooper_hpc.data.tables.table_mapping import TableColumn, TableMapping
from clicooper_hpc.errors import DataError

__all__ = ["MISSING_CATEGORY", "encode_table_rows"]

#: Category of a missing value, under policy "category".
MISSING_CATEGORY = "(missing)"


def encode_table_rows(
    mapping: TableMapping, columns: Mapping[str, ColumnCells], keep: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """Return the rows of a batch, float32 [kept, D].

    Parameters
    ----------
    columns
        Cells by the name of the column, all of one batch.
    keep
        bool [n]: which rows are wanted; what the others hold is not looked at.

    Raises
    ------
    DataError
        Naming column and row: no value where none may be missing, no number, a number beyond
        float32, a category that is not known.
    """
    parts = []
    for column in mapping.columns:
        cells = columns[column.name]
        encode = _encode_categories if column.kind == "category" else _encode_numbers
        parts.append(encode(column, cells, keep))
    return np.concatenate(parts, axis=1)


def _encode_numbers(
    column: TableColumn, cells: ColumnCells, keep: NDArray[np.bool_]
) -> NDArray[np.float32]:
    exact = cells.numbers()
    absent = np.isnan(exact)
    if column.fill is not None:
        exact[absent] = column.fill
    else:
        _refuse_missing(column, cells, absent & keep)
    with np.errstate(over="ignore"):
        numbers = exact.astype(np.float32)
    beyond = np.flatnonzero(np.isinf(numbers) & keep)
    if len(beyond):
        raise DataError(
            f"{exact[beyond[0]]:g} is beyond the range of float32",
            where=f"{cells.where}, row {cells.first_row + int(beyond[0])}",
            remedy="Take its logarithm, or another unit",
        )
    return numbers[keep, None]


def _encode_categories(
    column: TableColumn, cells: ColumnCells, keep: NDArray[np.bool_]
) -> NDArray[np.float32]:
    codes, texts = cells.coded_texts()
    known = {category: number for number, category in enumerate(column.categories)}
    numbers = np.asarray([*(known.get(text, -2) for text in texts), -1], dtype=np.int64)[codes]
    if column.missing == "category":
        numbers[numbers == -1] = known[MISSING_CATEGORY]
    _refuse_missing(column, cells, (numbers == -1) & keep)
    unknown = np.flatnonzero((numbers == -2) & keep)
    if len(unknown):
        row = int(unknown[0])
        shown = ", ".join(repr(one[:40]) for one in column.categories[:8])
        more = f" and {len(column.categories) - 8} more" if len(column.categories) > 8 else ""
        raise DataError(
            f"{texts[codes[row]][:60]!r} is none of the categories {shown}{more}",
            where=f"{cells.where}, row {cells.first_row + row}",
            remedy="A network knows no category that it was not trained on: state all of them "
            "at the import (--categories), or leave the row or the column out",
        )
    numbers = numbers[keep]
    if column.encoding == "integer":
        return numbers.astype(np.float32)[:, None]
    indicators = np.zeros((len(numbers), len(column.categories)), dtype=np.float32)
    indicators[np.arange(len(numbers)), numbers] = 1
    return indicators


def _refuse_missing(column: TableColumn, cells: ColumnCells, absent: NDArray[np.bool_]) -> None:
    if not absent.any():
        return
    drops = column.missing == "drop"
    raise DataError(
        "has no value" + (" (rows without one were left out of the training)" if drops else ""),
        where=f"{cells.where}, row {cells.first_row + int(np.flatnonzero(absent)[0])}",
        remedy="Fill it in, or leave the row out",
    )
