"""Digest of table rows, equal for the rank that writes them and for whoever reads them later."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from clicooper_hpc.digests import Digest, digest_bytes
from clicooper_hpc.runstore.tables import Table

__all__ = ["RowsDigest", "rows_digest"]

ROWS_TAG = "clicooper/v1/rows"


class RowsDigest:
    """Running digest of the rows of some tables.

    Per column: SHA-256 over its values (little-endian, C order) in the order written. The digest
    is taken over one text line per column: table, column, dtype, number of rows, column hash.
    """

    def __init__(self, tables: Iterable[Table]) -> None:
        self._tables = tuple(sorted(tables, key=lambda table: table.name))
        self._hashes = {
            (table.name, column.name): hashlib.sha256()
            for table in self._tables
            for column in table.columns
        }
        self._rows = dict.fromkeys((table.name for table in self._tables), 0)

    def add(self, table: Table, rows: Mapping[str, np.ndarray[Any, Any]]) -> None:
        """Add ``rows``, one array per column; other tables than the given ones are passed over."""
        if table.name not in self._rows:
            return
        for column in table.columns:
            dtype = np.dtype(column.dtype).newbyteorder("<")
            values = np.ascontiguousarray(rows[column.name]).astype(dtype, copy=False)
            self._hashes[table.name, column.name].update(values.tobytes())
        self._rows[table.name] += len(rows[table.axis])

    def digest(self) -> Digest:
        """Return the digest of everything added."""
        lines = [
            f"{table.name}\t{column.name}\t{np.dtype(column.dtype).newbyteorder('<').str}\t"
            f"{self._rows[table.name]}\t{self._hashes[table.name, column.name].hexdigest()}\n"
            for table in self._tables
            for column in table.columns
        ]
        return digest_bytes(ROWS_TAG, "".join(lines).encode("ascii"))


def rows_digest(content: Mapping[Table, Mapping[str, np.ndarray[Any, Any]]]) -> Digest:
    """Digest whole tables at once."""
    running = RowsDigest(content)
    for table, rows in content.items():
        running.add(table, rows)
    return running.digest()
