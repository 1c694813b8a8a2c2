"""Digests of a run's tables and of its index, for the statements that owner and trainers sign.

Tables are digested row by row as they are written (`RowsDigest`), the index as a whole
(`IndexContent`). Outside both are the status, digests of files, views, links, units, names, and the
tables of the ledger, whose rows are signed themselves: checks of their own look at those.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from clicooper_hpc.digests import Digest, digest_bytes
from clicooper_hpc.runstore.hdf5.files import Attribute
from clicooper_hpc.runstore.tables.schema import Table

__all__ = ["IndexContent", "RowsDigest", "card_digest", "owner_tables_digest"]

ROWS_TAG = "clicooper/v1/rows"
INDEX_TAG = "clicooper/v1/index"


class RowsDigest:
    """Running digest of the rows of some tables.

    Per column: SHA-256 over its values (little-endian, C order) in the order written. The digest
    is taken over one text line per column: table, column, dtype, number of rows, column hash.
    """

    def __init__(self, tables: Iterable[Table]) -> None:
        # By name: writer and reader may know the tables in different orders.
        self._tables = tuple(sorted(tables, key=lambda table: table.name))
        self._hashes = {
            (table.name, column.name): hashlib.sha256()
            for table in self._tables
            for column in table.columns
        }
        self._rows = dict.fromkeys((table.name for table in self._tables), 0)

    def add(self, table: Table, rows: Mapping[str, np.ndarray[Any, Any]]) -> None:
        """Add ``rows``, one array per column; other tables than the given ones are passed over."""
        # Tables whose rows are signed statements themselves need no digest.
        if table.name not in self._rows:
            return
        for column in table.columns:
            # Little-endian whatever the machine: the reader may have another.
            dtype = np.dtype(column.dtype).newbyteorder("<")
            values = np.ascontiguousarray(rows[column.name]).astype(dtype, copy=False)
            # Its own memory, not a copy: a column may be large.
            self._hashes[table.name, column.name].update(values.data)
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


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexContent:
    """The same values whether they are about to be written or were read back.

    ``attrs`` root attributes without ``status``; ``privacy`` attributes of the privacy card;
    ``promised`` and ``card`` its text before the first release and at the end; ``scales`` the
    numbers of ranks, layers and segments along the axes.
    """

    attrs: Mapping[str, Attribute]
    hosts: Sequence[str]
    cuts: Sequence[int]
    schedule: str
    layer_names: Sequence[str]
    privacy: Mapping[str, Attribute]
    promised: str
    card: str
    results: Mapping[str, Attribute]
    scales: Sequence[Sequence[int]]

    def digest(self) -> Digest:
        """Return the digest of all of it, as sorted JSON."""
        content = asdict(self)
        # The status is written after the digest is signed.
        content["attrs"] = {k: v for k, v in self.attrs.items() if k != "status"}
        text = json.dumps(content, sort_keys=True, separators=(",", ":"), default=list)
        return digest_bytes(INDEX_TAG, text.encode())


def card_digest(text: str) -> Digest:
    """Digest of a privacy card as printed before the first release."""
    return digest_bytes("clicooper/v1/card", text.encode())


def owner_tables_digest(rows: Digest, index: Digest) -> Digest:
    """Digest of all the owner writes into a run: its tables, and the index itself."""
    return digest_bytes("clicooper/v1/owner-tables", rows.value + index.value)
