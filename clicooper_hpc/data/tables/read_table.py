"""Reading a new table by a stored mapping: the same columns, in any order, as rows of numbers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from clicooper_hpc.data.sample_sink import SampleSink
from clicooper_hpc.data.tables.arrow_table import ArrowTable, open_arrow_table
from clicooper_hpc.data.tables.column_survey import READABLE_KINDS
from clicooper_hpc.data.tables.table_column import whole_number
from clicooper_hpc.data.tables.table_mapping import TableMapping
from clicooper_hpc.data.tables.table_rows import encode_table_rows
from clicooper_hpc.errors import DataError

__all__ = ["open_mapped_table", "read_mapped_table"]


def open_mapped_table(
    kind: str, path: Path, mapping: TableMapping
) -> tuple[ArrowTable, tuple[str, ...]]:
    """Open a table that ``mapping`` is for; return it, and its columns that serve for nothing.

    Raises
    ------
    UsageError, DataError
        As `open_arrow_table`; or a column is missing, or of a type that is no feature.
    """
    table = open_arrow_table(kind, path, mapping.cells)
    wanted = [column.name for column in mapping.columns]
    missing = [name for name in wanted if name not in table.kinds]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise DataError(
            f"has no column {missing[0]!r}{more}, which the model was trained with",
            where=table.where,
            remedy="Give it the same columns, in any order",
        )
    for name in wanted:
        if table.kinds[name] not in READABLE_KINDS:
            raise DataError(
                f"is of type {table.kinds[name][:80]}, which is no feature",
                where=f"{table.where}, column {name!r}",
                remedy="Store what it held in the table that was trained on",
            )
    unused = tuple(name for name in table.kinds if name not in (*wanted, mapping.label))
    return table, unused


def read_mapped_table(
    table: ArrowTable,
    mapping: TableMapping,
    split: str,
    sink: SampleSink,
    class_names: tuple[str, ...],
) -> tuple[str, ...] | None:
    """Stream all rows of ``table`` into ``sink`` as samples of ``split``.

    Returns
    -------
    tuple of str, or None
        Names of the labels' classes, of which ``class_names`` are the first; None where the table
        has no column of labels. Rows without a label have label -1.

    Raises
    ------
    DataError
        As `encode_table_rows`.
    """
    labelled = table.kinds.get(mapping.label) in READABLE_KINDS
    names = {name: number for number, name in enumerate(class_names)}
    wanted = [*(column.name for column in mapping.columns), *([mapping.label] * labelled)]
    for _, count, cells in table.iterate_batches(wanted):
        labels = np.full(count, -1, dtype=np.int64)
        if labelled:
            codes, texts = cells[mapping.label].coded_texts()
            # Classes that the model does not know come behind those that it does.
            said = [_class_name(text, names, mapping.cells.decimal) for text in texts]
            numbers = [names.setdefault(name, len(names)) for name in said]
            labels = np.asarray([*numbers, -1], dtype=np.int64)[codes]
        rows = encode_table_rows(mapping, cells, np.ones(count, dtype=np.bool_))
        sink.append_samples(split, rows, labels)
    return tuple(names) if labelled else None


def _class_name(text: str, names: Mapping[str, int], decimal: str) -> str:
    """Return the class that ``text`` says: 1.0 and 01 are the class 1 where only that is known."""
    if text in names:
        return text
    whole = whole_number(text, decimal)
    return text if whole is None or str(whole) not in names else str(whole)
