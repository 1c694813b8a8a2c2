"""First pass over a table: what its columns hold, its labels, and which row is of which split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clicooper_hpc.data.class_labels import check_class_names
from clicooper_hpc.data.h5_format import SPLITS
from clicooper_hpc.data.stratified_split import stratified_test_mask
from clicooper_hpc.data.tables.arrow_table import ArrowTable
from clicooper_hpc.data.tables.column_survey import READABLE_KINDS, ColumnSurvey
from clicooper_hpc.data.tables.label_column import LabelColumn
from clicooper_hpc.data.tables.table_column import ColumnCells
from clicooper_hpc.data.tables.table_options import TableOptions
from clicooper_hpc.errors import DataError

__all__ = ["DROPPED", "TableSurvey", "survey_tables"]

#: Split of a row that is left out; the others are places in `SPLITS`.
DROPPED = -1
_TRAIN, _TEST = SPLITS.index("train"), SPLITS.index("test")
_UNKNOWN = -2
#: What a column of splits may say, by the place in `SPLITS`.
_SPLIT_WORDS = {
    word: SPLITS.index(split)
    for split, words in (
        ("train", ("train", "training")),
        ("validation", ("validation", "valid", "val", "dev")),
        ("test", ("test", "testing")),
    )
    for word in words
}


@dataclass(frozen=True, slots=True)
class TableSurvey:
    """What the first pass found.

    Attributes
    ----------
    columns
        By name, of all columns that may become features.
    class_names
        Of the K classes.
    labels, splits
        Of every row, part after part: int64 class, and int8 place in `SPLITS` or `DROPPED`.
    dropped
        Rows left out, by the column that had no value.
    """

    columns: dict[str, ColumnSurvey]
    class_names: tuple[str, ...]
    labels: NDArray[np.int64]
    splits: NDArray[np.int8]
    dropped: dict[str, int]


def survey_tables(
    parts: Sequence[tuple[ArrowTable, str | None]], options: TableOptions
) -> TableSurvey:
    """Read all tables once.

    Parameters
    ----------
    parts
        Tables with the split of their rows, None where that is still to be found.

    Raises
    ------
    DataError
        Naming column and row: a label or split is missing or not understood, the files have
        different columns, a class has no training row.
    """
    first = parts[0][0]
    options.check_columns(first.column_names, first.where)
    taken = [
        name
        for name in first.column_names
        if name not in (options.label, options.split) and name not in options.leave_out and name
    ]
    columns = {
        name: ColumnSurvey(f"{first.where}, column {name!r}", first.kinds[name]) for name in taken
    }
    label = LabelColumn(options.label, options.cells.decimal)
    labels: list[NDArray[np.int64]] = []
    splits: list[NDArray[np.int8]] = []
    dropped: dict[str, int] = {}
    read = [name for name in taken if first.kinds[name] in READABLE_KINDS]
    wanted = [*read, options.label, *([options.split] if options.split else [])]
    for table, split in parts:
        _check_same_columns(table, first, wanted)
        for start, count, cells in table.iterate_batches(wanted):
            place = np.full(count, _UNKNOWN if split is None else SPLITS.index(split), np.int8)
            if options.split:
                place = _stated_splits(cells[options.split])
            codes = label.add_labels(cells[options.label])
            _drop_rows(place, codes < 0, options.label, dropped, options, table.where, start)
            for name in read:
                columns[name].add_cells(cells[name])
                if options.missing_policy(name)[0] == "drop":
                    _drop_rows(
                        place, cells[name].missing(), name, dropped, options, table.where, start
                    )
            labels.append(codes)
            splits.append(place)
    if not labels:
        raise DataError("has no rows", where=first.where)
    codes, place = np.concatenate(labels), np.concatenate(splits)
    names, classes = label.sorted_classes(int((codes >= 0).sum()), first.where)
    check_class_names(names, f"{first.where}, column {options.label!r}")
    # The last place stands for rows without a label, which are dropped.
    numbers = np.asarray([*classes, -1], dtype=np.int64)[codes]
    _hold_out(place, numbers, options)
    _check_classes(place, numbers, names, f"{first.where}, column {options.label!r}")
    return TableSurvey(columns, names, numbers, place, dropped)


def _check_same_columns(table: ArrowTable, first: ArrowTable, wanted: Sequence[str]) -> None:
    for name in wanted:
        if name not in table.kinds:
            raise DataError(
                f"has no column {name!r}, which {first.where} has",
                where=table.where,
                remedy="Give it the same columns, in any order",
            )
        both = {table.kinds[name], first.kinds[name]}
        if len(both) > 1 and "empty" not in both:
            raise DataError(
                f"is {table.kinds[name]} here and {first.kinds[name]} in {first.where}",
                where=f"{table.where}, column {name!r}",
                remedy="Store it as the same type in both",
            )


def _stated_splits(cells: ColumnCells) -> NDArray[np.int8]:
    codes, texts = cells.coded_texts()
    places = [_SPLIT_WORDS.get(text.lower(), _UNKNOWN) for text in texts]
    out = np.asarray([*places, _UNKNOWN], dtype=np.int8)[codes]
    odd = np.flatnonzero(out == _UNKNOWN)
    if len(odd):
        row = int(odd[0])
        said = "nothing" if codes[row] < 0 else repr(texts[codes[row]][:40])
        raise DataError(
            f"says {said}, known are {', '.join(SPLITS)}",
            where=f"{cells.where}, row {cells.first_row + row}",
            remedy="Write one of these, or leave the row out",
        )
    return out


def _drop_rows(
    place: NDArray[np.int8],
    absent: NDArray[np.bool_],
    name: str,
    dropped: dict[str, int],
    options: TableOptions,
    where: str,
    start: int,
) -> None:
    """Mark rows without a value in column ``name`` as dropped, if that is the policy."""
    if name == options.label and absent.any() and options.missing_policy(name)[0] != "drop":
        raise DataError(
            "has no label",
            where=f"{where}, column {name!r}, row {start + int(absent.argmax())}",
            remedy=f"Give --missing {name}=drop to leave such rows out",
        )
    count = int((absent & (place != DROPPED)).sum())
    if count:
        dropped[name] = dropped.get(name, 0) + count
        place[absent] = DROPPED


def _hold_out(place: NDArray[np.int8], labels: NDArray[np.int64], options: TableOptions) -> None:
    """Draw the test split among the rows whose split nobody stated."""
    free = np.flatnonzero(place == _UNKNOWN)
    place[free] = _TRAIN
    # Rows of another file are the test split: all of these are for training.
    if not len(free) or (place == _TEST).any():
        return
    keys = [f"table/{options.seed}/{row}" for row in free.tolist()]
    held = stratified_test_mask(labels[free], keys, round(options.share * len(free)))
    place[free[held]] = _TEST


def _check_classes(
    place: NDArray[np.int8], labels: NDArray[np.int64], names: Sequence[str], where: str
) -> None:
    kept = np.unique(labels[place != DROPPED])
    trained = np.unique(labels[place == _TRAIN])
    for number, name in enumerate(names):
        if number not in trained:
            rest = "only in other splits" if number in kept else "only in rows that are left out"
            raise DataError(
                f"the class {name[:60]!r} has no training row, {rest}",
                where=where,
                remedy="Move rows of it to the training split, or leave them out",
            )
