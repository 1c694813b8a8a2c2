"""`ArrowTable`: a CSV, Parquet or Arrow file, or anything pyarrow takes, read batch by batch.

The one module that calls pyarrow to read. It can be read as often as needed; memory is that of one
batch.
"""

from __future__ import annotations

import importlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clicooper_hpc.data.importers.exact_reader import open_source_file
from clicooper_hpc.data.tables.table_column import ColumnCells, SourceKind
from clicooper_hpc.data.tables.table_mapping import PLAIN_CELLS, CellFormat
from clicooper_hpc.errors import DataError, UsageError

__all__ = ["TABLE_KINDS", "ArrowTable", "open_arrow_table", "open_python_table"]

TABLE_KINDS = ("csv", "parquet", "arrow")

#: Bytes of a CSV file, and rows of other sources, that are read together.
_BLOCK_BYTES = 4 * 1024 * 1024
_BATCH_ROWS = 16_384


@dataclass(frozen=True, slots=True)
class ArrowTable:
    """A table that can be read any number of times.

    Attributes
    ----------
    where
        Its file, for messages.
    kinds
        Of its columns, in their order; `SourceKind`, or the name of a type that cannot be taken.
    remarks
        What of the source was passed over when it was opened.
    """

    where: str
    kinds: dict[str, str]
    remarks: tuple[str, ...] = ()
    _batches: Callable[[list[str]], Iterator[Any]] = field(repr=False, default=lambda _: iter(()))
    _cells: CellFormat = field(repr=False, default=PLAIN_CELLS)

    @property
    def column_names(self) -> tuple[str, ...]:
        """Names of its columns."""
        return tuple(self.kinds)

    def iterate_batches(
        self, names: list[str]
    ) -> Iterator[tuple[int, int, dict[str, ColumnCells]]]:
        """Yield (number of the first row, rows, cells by name) of some columns, in order."""
        start = 0
        with _arrow_errors(self.where):
            for batch in self._batches(names):
                if not batch.num_rows:
                    continue
                columns = {
                    name: ColumnCells(
                        batch.column(position),
                        self.kinds[name],
                        f"{self.where}, column {name!r}",
                        start,
                        self._cells,
                    )
                    for position, name in enumerate(names)
                }
                yield start, batch.num_rows, columns
                start += batch.num_rows


def open_arrow_table(kind: str, path: Path, cells: CellFormat) -> ArrowTable:
    """Open a file of one of `TABLE_KINDS`; only its header is read.

    Raises
    ------
    UsageError
        pyarrow is not installed.
    DataError
        Naming the file: it is no such file, has no rows, or names of columns repeat.
    """
    pyarrow = load_pyarrow()
    # A pipe or a device is refused here; pyarrow would wait for it.
    open_source_file(path).close()
    where = str(path)
    with _arrow_errors(where):
        if kind == "csv":
            return _open_csv(path, cells)
        if kind == "parquet":
            parquet: Any = importlib.import_module("pyarrow.parquet")
            with parquet.ParquetFile(path) as file:
                schema = file.schema_arrow

            def parquet_batches(names: list[str]) -> Iterator[Any]:
                with parquet.ParquetFile(path) as file:
                    for batch in file.iter_batches(
                        batch_size=_BATCH_ROWS, columns=names, use_threads=False
                    ):
                        yield batch.select(names)

            return _typed_table(where, schema, parquet_batches)
        with _open_ipc(pyarrow, path) as reader:
            schema = reader.schema

        def arrow_batches(names: list[str]) -> Iterator[Any]:
            with _open_ipc(pyarrow, path) as reader:
                yield from _ipc_batches(reader, names)

        return _typed_table(where, schema, arrow_batches)


def open_python_table(given: Any, where: str) -> ArrowTable:
    """Take a data frame, a mapping of arrays or anything else that ``pyarrow.table`` takes.

    Raises
    ------
    DataError
        pyarrow does not take it, or names of columns repeat.
    """
    pyarrow = load_pyarrow()
    remarks: tuple[str, ...] = ()
    with _arrow_errors(where):
        if type(given).__module__.partition(".")[0] == "pandas":
            # Else an index that is not 0, 1, 2, ... would become a feature of its own.
            table = pyarrow.Table.from_pandas(given, preserve_index=False)
            if list(given.index.names) != [None]:
                named = ", ".join(repr(str(name)) for name in given.index.names)
                remarks = (f"the index {named} is left out: reset_index() makes it a column",)
        elif isinstance(given, pyarrow.RecordBatchReader):
            table = given.read_all()
        else:
            table = pyarrow.table(given)
    batches = lambda names: table.select(names).to_batches(max_chunksize=_BATCH_ROWS)  # noqa: E731
    return _typed_table(where, table.schema, batches, remarks)


def load_pyarrow() -> Any:
    """Return the module pyarrow.

    Raises
    ------
    UsageError
        It is not installed.
    """
    try:
        return importlib.import_module("pyarrow")
    except ImportError:
        raise UsageError(
            "reading tables needs pyarrow, which is not installed",
            where="csv, parquet, arrow",
            remedy="Install it (pip install 'clicooper-hpc[tables]').",
        ) from None


def _open_csv(path: Path, cells: CellFormat) -> ArrowTable:
    csv: Any = importlib.import_module("pyarrow.csv")
    pyarrow = load_pyarrow()
    # One thread: with more, errors name no row.
    reading = csv.ReadOptions(use_threads=False, block_size=_BLOCK_BYTES)
    parsing = csv.ParseOptions(delimiter=cells.delimiter, newlines_in_values=True)
    with csv.open_csv(path, read_options=reading, parse_options=parsing) as reader:
        names = [name.strip() for name in reader.schema.names]
        stored = dict(zip(names, reader.schema.names, strict=True))
    _check_names(names, str(path))
    if len(names) == 1 and any(sign in names[0] for sign in ";\t|,"):
        sign = next(sign for sign in ";\t|," if sign in names[0])
        raise DataError(
            f"has one column, called {names[0][:60]!r}",
            where=str(path),
            remedy=f"If {sign!r} stands between cells, import tables with --delimiter {sign!r}",
        )
    if len(names) == 1:
        # There a line without anything is a cell without a value.
        parsing.ignore_empty_lines = False
    # Types that are guessed from the first block of a file fail in a later one: all are texts here.
    converting = {
        "column_types": dict.fromkeys(stored.values(), pyarrow.string()),
        "null_values": list(cells.nulls),
        "strings_can_be_null": True,
        # Quoted, a text is meant.
        "quoted_strings_can_be_null": False,
    }

    def batches(wanted: list[str]) -> Iterator[Any]:
        include = [stored[name] for name in wanted]
        options = csv.ConvertOptions(include_columns=include, **converting)
        with csv.open_csv(
            path, read_options=reading, parse_options=parsing, convert_options=options
        ) as reader:
            yield from reader

    _check_last_quote(path)
    return ArrowTable(str(path), dict.fromkeys(names, "cells"), (), batches, cells)


def _check_last_quote(path: Path) -> None:
    """Refuse a file whose last quoted cell is never closed.

    pyarrow takes everything behind such a quote, up to the end of the file, for one cell.
    """
    odd = False
    with open_source_file(path) as file:
        while block := file.read(_BLOCK_BYTES):
            # A doubled quote inside a cell stands for one and leaves the count even.
            odd ^= bool(block.count(b'"') % 2)
    if odd:
        raise DataError(
            "opens a quote that is never closed",
            where=str(path),
            remedy='Close it; a quote inside a cell is written twice ("")',
        )


@contextmanager
def _open_ipc(pyarrow: Any, path: Path) -> Iterator[Any]:
    """Open an Arrow file, or a stream of one, as Hugging Face's ``datasets`` write it."""
    with pyarrow.memory_map(str(path)) as mapped:
        magic = mapped.read(6)
        mapped.seek(0)
        ipc = pyarrow.ipc
        with (ipc.open_file if magic == b"ARROW1" else ipc.open_stream)(mapped) as reader:
            yield reader


def _ipc_batches(reader: Any, names: list[str]) -> Iterator[Any]:
    if hasattr(reader, "num_record_batches"):
        for number in range(reader.num_record_batches):
            yield reader.get_batch(number).select(names)
        return
    for batch in reader:
        yield batch.select(names)


def _typed_table(
    where: str,
    schema: Any,
    batches: Callable[[list[str]], Iterator[Any]],
    remarks: tuple[str, ...] = (),
) -> ArrowTable:
    names = list(schema.names)
    _check_names(names, where)
    kinds = {one.name: _source_kind(one.type) for one in schema}
    return ArrowTable(where, kinds, remarks, batches)


def _source_kind(stored: Any) -> SourceKind | str:
    types = load_pyarrow().types
    if types.is_dictionary(stored):
        stored = stored.value_type
    if types.is_integer(stored) or types.is_floating(stored) or types.is_decimal(stored):
        return "number"
    if types.is_boolean(stored):
        return "boolean"
    if types.is_string(stored) or types.is_large_string(stored) or types.is_string_view(stored):
        return "text"
    return "empty" if types.is_null(stored) else str(stored)


def _check_names(names: list[str], where: str) -> None:
    twice = sorted(name for name, count in Counter(names).items() if count > 1)
    if twice:
        raise DataError(
            f"has more than one column called {twice[0][:60]!r}",
            where=where,
            remedy="Give every column a name of its own",
        )


@contextmanager
def _arrow_errors(where: str) -> Iterator[None]:
    """Turn what pyarrow raises on files and frames it cannot read into one DataError."""
    pyarrow = load_pyarrow()
    try:
        yield
    except UnicodeDecodeError as error:
        raise DataError(
            f"is not UTF-8 ({error.reason})", where=where, remedy="Save it as UTF-8"
        ) from error
    except (pyarrow.ArrowException, ValueError, TypeError, OSError, OverflowError) as error:
        lines = ", ".join(map(str, error.args)).strip().splitlines() or [type(error).__name__]
        utf8 = "invalid UTF8" in lines[0] or "cannot infer number of columns" in lines[0]
        raise DataError(
            f"cannot be read as a table ({lines[0][:300]})",
            where=where,
            remedy="Save it as UTF-8" if utf8 else None,
        ) from error
