"""Importing a table: its columns become features by a mapping that is stored with them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clicooper_hpc.data.dataset_writer import DatasetWriter
from clicooper_hpc.data.h5_format import SPLITS
from clicooper_hpc.data.sample_sink import SampleSink
from clicooper_hpc.data.tables.arrow_table import (
    ArrowTable,
    open_arrow_table,
    open_python_table,
)
from clicooper_hpc.data.tables.column_survey import ColumnSurvey, column_kind
from clicooper_hpc.data.tables.label_column import describe_classes
from clicooper_hpc.data.tables.table_column import ColumnCells
from clicooper_hpc.data.tables.table_mapping import Encoding, TableColumn, TableMapping
from clicooper_hpc.data.tables.table_options import TableOptions
from clicooper_hpc.data.tables.table_rows import MISSING_CATEGORY, encode_table_rows
from clicooper_hpc.data.tables.table_survey import DROPPED, TableSurvey, survey_tables
from clicooper_hpc.errors import DataError, UsageError

__all__ = ["import_table", "import_table_file"]

#: Categories above which a column of texts is taken for a mistake, by encoding.
_MOST_CATEGORIES: dict[str, int] = {"one-hot": 256, "integer": 65_536}

_Parts = Sequence[tuple[ArrowTable, str | None]]


def import_table(
    table: Any, target: str | Path, options: TableOptions, *, overwrite: bool = False
) -> tuple[str, ...]:
    """Write a data frame, or whatever else ``pyarrow.table`` takes, as a data set.

    Parameters
    ----------
    table
        A pandas or polars frame, a mapping from names to arrays, a table or reader of pyarrow.
    target
        HDF5 file to write; it appears when it is complete.
    options
        What its columns are; files of other splits are for tables that are files.

    Returns
    -------
    tuple of str
        What was done with the columns and rows, a line each.

    Raises
    ------
    UsageError, DataError
        As `clicooper_hpc.data.importers.import_dataset.import_dataset`.
    """
    if options.test or options.validation:
        raise DataError("files go with tables that are files", where="test, validation")
    where = f"table of type {type(table).__name__}"
    with DatasetWriter(
        Path(target), source=where, source_kind="arrow", overwrite=overwrite
    ) as writer:
        names, mapping, remarks = _import_parts(
            [(open_python_table(table, where), None)], writer, options
        )
        writer.finish(names, table=mapping)
    return remarks


def import_table_file(
    kind: str, source: Path, sink: SampleSink, options: TableOptions
) -> tuple[tuple[str, ...], TableMapping, tuple[str, ...]]:
    """Stream a file of one of `TABLE_KINDS`, and those of other splits, into ``sink``.

    Returns
    -------
    tuple
        Names of the classes; the mapping; what was done with columns and rows, a line each.
    """
    others = [("validation", options.validation), ("test", options.test)]
    for split, path in others:
        if path is not None and path.exists() and source.exists() and path.samefile(source):
            raise UsageError(
                "is the table itself: its rows would be trained on and tested with",
                where=f"--{split} {path}",
                remedy="Name a file with other rows, or hold some out with --test-share",
            )
    files = [(source, "train" if options.test else None)]
    files += [(path, split) for split, path in others if path is not None]
    return _import_parts(
        [(open_arrow_table(kind, path, options.cells), split) for path, split in files],
        sink,
        options,
    )


def _import_parts(
    parts: _Parts, sink: SampleSink, options: TableOptions
) -> tuple[tuple[str, ...], TableMapping, tuple[str, ...]]:
    survey = survey_tables(parts, options)
    mapping, remarks = _make_mapping(parts, survey, options)
    for keep, cells, labels, splits in _kept_batches(parts, survey, mapping):
        rows = encode_table_rows(mapping, cells, keep)
        for place, split in enumerate(SPLITS):
            chosen = splits == place
            if chosen.any():
                sink.append_samples(split, rows[chosen], labels[chosen])
    return survey.class_names, mapping, tuple(remarks)


def _kept_batches(
    parts: _Parts, survey: TableSurvey, mapping: TableMapping
) -> Iterator[
    tuple[NDArray[np.bool_], dict[str, ColumnCells], NDArray[np.int64], NDArray[np.int8]]
]:
    """Yield (which rows are kept, cells, labels and splits of the kept rows) of all parts."""
    names, done = [column.name for column in mapping.columns], 0
    for table, _ in parts:
        for _, count, cells in table.iterate_batches(names):
            span = slice(done, done + count)
            keep = survey.splits[span] != DROPPED
            yield keep, cells, survey.labels[span][keep], survey.splits[span][keep]
            done += count


def _make_mapping(
    parts: _Parts, survey: TableSurvey, options: TableOptions
) -> tuple[TableMapping, list[str]]:
    first = parts[0][0]
    remarks = [*first.remarks, *_remarks_on_rows(survey, options)]
    left = [name for name in first.column_names if name in options.leave_out]
    remarks += [f"column {name!r} is left out, as asked" for name in left]
    if "" in first.column_names:
        remarks.append("a column without a name is left out (often a row number)")
    columns: list[TableColumn] = []
    for name, found in survey.columns.items():
        named = name in options.categorical or name in options.categories
        kind = column_kind(found, categorical=named, decimal=options.cells.decimal)
        if kind is None:
            remarks.append(f"column {name!r} is left out: it holds no value at all")
            continue
        columns.append(_plain_column(name, kind == "category", kind, found, options))
        if kind == "number":
            remarks += _remarks_on_column(name, found)
    if not columns:
        raise DataError(
            "has no column besides the label that could be a feature", where=first.where
        )
    mapping = TableMapping(tuple(columns), options.label, options.cells)
    mapping = _learn_from_training_rows(parts, survey, mapping, options)
    features = mapping.feature_names
    twice = next((name for name in features if features.count(name) > 1), None)
    if twice is not None:
        raise DataError(
            f"two features would be called {twice[:80]!r}",
            where=first.where,
            remedy="Rename a column",
        )
    for column in mapping.columns:
        if column.kind == "category":
            shown = ", ".join(one[:30] for one in column.categories[:8])
            more = "" if len(column.categories) <= 8 else f" and {len(column.categories) - 8} more"
            how = f"{column.encoding}, {len(column.categories)} categories: {shown}{more}"
            remarks.append(f"column {column.name!r} as {how}")
        if column.missing in ("mean", "constant", "category"):
            what = column.missing if column.fill is None else f"{column.missing} {column.fill:g}"
            cells = survey.columns[column.name].missing
            remarks.append(f"column {column.name!r}: {cells:,} cells without a value became {what}")
    return mapping, remarks


def _plain_column(
    name: str, category: bool, kind: Any, found: ColumnSurvey, options: TableOptions
) -> TableColumn:
    """Return a column before anything is learnt of the training rows."""
    policy, fill = options.missing_policy(name)
    encoding: Encoding = "number"
    if category:
        wanted = options.categorical.get(name, options.categorical.get("", "one-hot"))
        encoding = "integer" if wanted == "integer" else "one-hot"
    if not found.missing:
        return TableColumn(name, kind, encoding)
    if policy == "refuse" or ((policy == "category") != category and policy != "drop"):
        fitting = "drop, category" if category else "drop, mean, a number"
        said = "" if policy == "refuse" else f", and {policy!r} does not apply to it"
        raise DataError(
            f"has no value, as have {found.missing:,} of {found.rows:,} cells of this column{said}",
            where=found.first_missing,
            remedy=f"State what is done about that: --missing {name}=POLICY ({fitting})",
        )
    return TableColumn(name, kind, encoding, missing=policy, fill=fill)


def _learn_from_training_rows(
    parts: _Parts, survey: TableSurvey, mapping: TableMapping, options: TableOptions
) -> TableMapping:
    """Return the mapping with categories and means of the training rows, and of no others."""
    stated = {name: tuple(given) for name, given in options.categories.items()}
    met: dict[str, dict[str, None]] = {
        column.name: {}
        for column in mapping.columns
        if column.kind == "category" and column.name not in stated
    }
    sums = {column.name: [0.0, 0] for column in mapping.columns if column.missing == "mean"}
    if met or sums:
        for keep, cells, _, splits in _kept_batches(parts, survey, mapping):
            train = np.zeros(len(keep), dtype=bool)
            train[keep] = splits == 0
            for name, texts in met.items():
                codes, values = cells[name].coded_texts()
                for code in np.unique(codes[train & (codes >= 0)]).tolist():
                    texts[values[code]] = None
            for name, total in sums.items():
                numbers = cells[name].numbers()[train]
                numbers = numbers[~np.isnan(numbers)]
                total[0] += float(numbers.sum())
                total[1] += len(numbers)
    columns = []
    for column in mapping.columns:
        where = survey.columns[column.name].name
        if column.kind == "category":
            own = (MISSING_CATEGORY,) if column.missing == "category" else ()
            known = stated.get(column.name) or tuple(sorted(met[column.name]))
            column = replace(column, categories=(*known, *own), learnt=column.name not in stated)
            _check_categories(column, where)
        elif column.missing == "mean":
            total = sums[column.name]
            if not total[1]:
                raise DataError("has no value in any training row", where=where)
            column = replace(column, fill=total[0] / total[1], learnt=True)
        columns.append(column)
    return replace(mapping, columns=tuple(columns))


def _check_categories(column: TableColumn, where: str) -> None:
    count, most = len(column.categories), _MOST_CATEGORIES[column.encoding]
    if count > most:
        raise DataError(
            f"holds {count:,} different texts, such as {column.categories[0][:60]!r}: more than "
            f"{most:,}",
            where=where,
            remedy="Leave it out (--leave-out), make numbers of it, or (many categories) give "
            "--categorical COLUMN=integer",
        )
    if len(set(column.categories)) < count or "" in column.categories:
        known = column.categories
        twice = next(one for one in known if known.count(one) > 1 or not one)
        raise DataError(
            f"the category {twice[:60]!r} is empty or repeats",
            where=where,
            remedy="Rename it in the table, or state each once with --categories",
        )
    if not count:
        raise DataError("has no value in any training row", where=where)


def _remarks_on_rows(survey: TableSurvey, options: TableOptions) -> list[str]:
    remarks = []
    counts = np.bincount(survey.labels[survey.splits == 0], minlength=len(survey.class_names))
    remarks.append(describe_classes(survey.class_names, counts))
    if not (options.split or options.test):
        remarks.append(
            f"test split: {options.share:g} of every class, drawn by seed {options.seed}"
        )
    for name, count in survey.dropped.items():
        remarks.append(f"{count:,} rows are left out: no value in column {name!r}")
    tested = np.unique(survey.labels[survey.splits == SPLITS.index("test")])
    lacking = [name for at, name in enumerate(survey.class_names) if at not in tested]
    if lacking:
        shown = ", ".join(repr(name[:40]) for name in lacking[:6])
        more = f" and {len(lacking) - 6} more" * (len(lacking) > 6)
        remarks.append(f"no test row is of class {shown}{more}")
    train = survey.labels[survey.splits == 0]
    if len(train) > len(survey.class_names) and bool((np.diff(train) >= 0).all()):
        remarks.append(
            "the training rows are sorted by class: data.validation_rows, taken off their end, "
            "would be of one class; shuffle the table first"
        )
    return remarks


def _remarks_on_column(name: str, found: ColumnSurvey) -> list[str]:
    remarks = []
    if found.inexact:
        remarks.append(
            f"column {name!r}: {found.inexact:,} whole numbers are beyond 16,777,216, up to where "
            "float32 is exact: they are rounded, and neighbours may become equal"
        )
    if found.numbers and found.lowest == found.highest:
        remarks.append(f"column {name!r} has the same value {found.lowest:g} everywhere")
    return remarks
