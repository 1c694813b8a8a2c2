"""`TableWriter`: appends rows to tables, block by block; what both layouts of a run share."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from clicooper_hpc.closing import Closing
from clicooper_hpc.digests import Digest
from clicooper_hpc.errors import EnvironmentUnfitError
from clicooper_hpc.runstore.atomic_files import fsync_path
from clicooper_hpc.runstore.hdf5.files import hdf5_write_error
from clicooper_hpc.runstore.signed_digests import RowsDigest
from clicooper_hpc.runstore.tables.schema import COMPLETE, DIGESTED_TABLES, Column, Table

__all__ = ["KeptRows", "RowBuffer", "TableWriter"]

Rows = dict[str, np.ndarray[Any, Any]]


@dataclass(frozen=True, slots=True)
class KeptRows:
    """Rows of an interrupted run that a restart keeps, by table.

    ``kept`` stay in the file; ``unsealed`` are those among them that the next seal covers.
    """

    kept: Mapping[str, Rows]
    unsealed: Mapping[str, Rows]

    def count(self, table: str) -> int:
        """Return how many rows of ``table`` stay."""
        return len(next(iter(self.kept[table].values()))) if table in self.kept else 0


class RowBuffer:
    """Rows of one table, checked and converted as they come."""

    def __init__(self, table: Table) -> None:
        self.table = table
        self._columns: dict[str, list[np.ndarray[Any, Any]]] = {c.name: [] for c in table.columns}
        self._rows = 0

    def __len__(self) -> int:
        return self._rows

    def add_row(self, values: Mapping[str, Any]) -> None:
        """Add one row. Float columns may be left out (NaN); everything else must be there."""
        unknown = values.keys() - self._columns.keys()
        if unknown:
            raise ValueError(f"table {self.table.name} has no column {sorted(unknown)}")
        # All converted before any is kept: a refused value leaves no row half added.
        row = {column.name: _convert_value(column, values) for column in self.table.columns}
        for name, value in row.items():
            self._columns[name].append(value)
        self._rows += 1

    def take_rows(self) -> Rows:
        """Return the rows as one array per column, shape (rows, *column.shape), and forget them."""
        rows = {name: np.stack(values) for name, values in self._columns.items()}
        for values in self._columns.values():
            values.clear()
        self._rows = 0
        return rows


def _convert_value(column: Column, values: Mapping[str, Any]) -> np.ndarray[Any, Any]:
    dtype = np.dtype(column.dtype)
    if column.name not in values:
        if dtype.kind != "f":
            raise ValueError(f"column {column.name} is missing")
        return np.full(column.shape, np.nan, dtype)
    value = values[column.name]
    given = np.asarray(value.encode("utf-8") if isinstance(value, str) else value)
    if given.shape != column.shape:
        raise ValueError(f"column {column.name} takes shape {column.shape}, not {given.shape}")
    if dtype.kind == "S":
        if given.dtype.kind != "S" or given.dtype.itemsize > dtype.itemsize:
            raise ValueError(f"column {column.name} takes up to {dtype.itemsize} bytes of text")
        return given.astype(dtype)
    # Whole numbers may become floats, never the other way: a lost fraction is a bug.
    safe = given.dtype.kind in ("biuf" if dtype.kind == "f" else "biu")
    converted = given.astype(dtype) if safe else given
    if not safe or (dtype.kind != "f" and not np.array_equal(converted, given)):
        raise ValueError(f"column {column.name} ({column.dtype}) cannot hold {value!r}")
    return converted


class TableWriter(Closing):
    """Append rows to tables; block by block, data before marker.

    Rows are kept in memory until ``flush_rows`` of them wait, ``flush_seconds`` have passed since
    the last flush (looked at when a row comes), or `flush` is called.

    Parameters
    ----------
    path
        File that is written; named in errors.
    tables
        Tables of this rank.
    clock
        Seconds that never go backwards.
    earlier
        Rows that a restart keeps and goes on behind.
    """

    def __init__(
        self,
        path: Path,
        tables: Iterable[Table],
        *,
        flush_rows: int = 256,
        flush_seconds: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
        earlier: KeptRows | None = None,
    ) -> None:
        self.path = path
        self._buffers = {table.name: RowBuffer(table) for table in tables}
        self._digest = self._new_digest()
        self._written = dict.fromkeys(self._buffers, 0)
        if earlier is not None:
            self._written = {name: earlier.count(name) for name in self._buffers}
            # Stored, but in no signed digest yet: the next one has to cover them.
            for name, rows in earlier.unsealed.items():
                self._digest.add(self._buffers[name].table, rows)
        self._flush_rows = flush_rows
        self._flush_seconds = flush_seconds
        self._clock = clock
        self._flushed_at = clock()
        self._failure: EnvironmentUnfitError | None = None
        self._closed = False

    @property
    def rows_written(self) -> Mapping[str, int]:
        """Rows of each table that are stored and marked complete."""
        return dict(self._written)

    def append(self, table: str, values: Mapping[str, Any]) -> None:
        """Add one row to ``table``.

        Raises
        ------
        EnvironmentUnfitError
            The file can no longer be written (full disk, quota, I/O error).
        ValueError
            A column is unknown, missing, or given a value it cannot hold.
        """
        self._require_open()
        self._buffers[table].add_row(values)
        late = self._clock() - self._flushed_at >= self._flush_seconds
        if late or sum(map(len, self._buffers.values())) >= self._flush_rows:
            self.flush()

    def flush(self) -> None:
        """Store every waiting row, then its marker. Errors as in `append`."""
        self._require_open()
        self._write(
            {name: buffer.take_rows() for name, buffer in self._buffers.items() if len(buffer)}
        )

    def sync(self) -> None:
        """Flush, and force what is stored to the disk: it then survives the loss of the node.

        Errors as in `append`.
        """
        self.flush()
        try:
            fsync_path(self.path)
        except OSError as error:
            self._fail(error)

    def extend(self, table: str, rows: Rows) -> None:
        """Flush, then store many rows of one table at once, one array per column.

        Errors as in `append`; the arrays are taken as they are, so dtypes and shapes must be the
        table's.
        """
        self.flush()
        if len(next(iter(rows.values()))):
            self._write({table: rows})

    def _write(self, blocks: Mapping[str, Rows]) -> None:
        self._flushed_at = self._clock()
        if not blocks:
            return
        # What is digested is what is written, from the same arrays.
        for name, rows in blocks.items():
            self._digest.add(self._buffers[name].table, rows)
        counts = {name: len(next(iter(rows.values()))) for name, rows in blocks.items()}
        markers = {
            name: {COMPLETE.name: np.ones(count, COMPLETE.dtype)} for name, count in counts.items()
        }
        try:
            # Two steps, the marker last: a kill in between leaves rows that nobody counts.
            self._store(blocks)
            self._store(markers)
        except (OSError, RuntimeError) as error:
            self._fail(error)
        for name, count in counts.items():
            self._written[name] += count

    def take_digest(self) -> Digest:
        """Flush; return the digest of all rows of `DIGESTED_TABLES` since the last call."""
        self.flush()
        finished, self._digest = self._digest, self._new_digest()
        return finished.digest()

    def close(self) -> None:
        """Flush and close. Closing twice, or after a failure, does nothing."""
        if self._closed or self._failure:
            return
        self.flush()
        # Before the end of the file: whatever fails there, no row is taken any more.
        self._closed = True
        try:
            self._finish()
        except (OSError, RuntimeError) as error:
            self._fail(error)

    def close_on_exit(self, error: BaseException | None) -> None:
        """Close, also after an error: rows that were measured count whatever came next."""
        self.close()

    def _new_digest(self) -> RowsDigest:
        return RowsDigest(
            buffer.table for buffer in self._buffers.values() if buffer.table in DIGESTED_TABLES
        )

    def _require_open(self) -> None:
        # The same error at every later call: rows after a gap would look complete.
        if self._failure:
            raise self._failure
        if self._closed:
            raise ValueError(f"{self.path} is closed")

    def _fail(self, error: Exception) -> None:
        self._failure = hdf5_write_error(self.path, error)
        self._give_up()
        raise self._failure from error

    @abstractmethod
    def _store(self, blocks: Mapping[str, Rows]) -> None:
        """Write ``blocks`` (table to columns) after the rows written so far, down to the file."""

    @abstractmethod
    def _finish(self) -> None:
        """Close the file after a last flush."""

    @abstractmethod
    def _give_up(self) -> None:
        """Let go of the file after a failed write; must not raise."""
