"""What the ranks' tables show of a run: digests of signed rows, roots of message digests."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, TypeAlias

import numpy as np

from clicooper_hpc.digests import Digest
from clicooper_hpc.errors import RunFolderError
from clicooper_hpc.provenance.ledger_order import LedgerOrder
from clicooper_hpc.provenance.merkle import MerkleDigest, merkle_leaf_hash
from clicooper_hpc.runstore.reader import Run
from clicooper_hpc.runstore.signed_digests import RowsDigest, owner_tables_digest
from clicooper_hpc.runstore.tables.schema import (
    DIGESTED_TABLES,
    MESSAGES,
    Table,
)
from clicooper_hpc.verification.evidence import Unreadable

__all__ = ["StoredTables", "message_roots", "read_tables", "row_digests", "table_column"]

StoredRows: TypeAlias = Mapping[str, np.ndarray[Any, Any]]

StoredTables: TypeAlias = Mapping[Table, StoredRows]
"""Every table of one rank as stored, one array per column."""

#: Rows looked at together. A table may unfold to gigabytes: nothing but the table has its size.
_BLOCK: Final = 1 << 16
#: Places of messages beyond the expected ones that are told apart; any at all is a fault.
_MORE_PLACES: Final = 16
_CHANNELS: Final = 4


def read_tables(run: Run, rank: int) -> StoredTables | Unreadable:
    """Read all tables of one rank; why that is not possible is a finding, not an error."""
    try:
        return run.stored_rows(rank)
    except RunFolderError as error:
        return Unreadable(error.what)


def table_column(tables: StoredTables, table: str, column: str) -> np.ndarray[Any, Any]:
    """Return one column; empty if there is no such table."""
    for found, rows in tables.items():
        if found.name == table:
            return rows.get(column, np.empty(0))
    return np.empty(0)


def message_roots(tables: StoredTables, stages: int) -> dict[tuple[int, str], tuple[int, str]]:
    """Return number and RFC 9162 root (hex) of the digests of every stage and channel.

    A root that cannot be taken, because a digest is none, is no hexadecimal text. Of places that a
    run of so many ``stages`` does not have, only some are kept.
    """
    columns = [table_column(tables, MESSAGES.name, name) for name in ("stage", "channel", "digest")]
    most = _CHANNELS * stages + _MORE_PLACES
    roots: dict[tuple[int, bytes], MerkleDigest] = {}
    broken: set[tuple[int, bytes]] = set()
    for start in range(0, len(columns[0]), _BLOCK):
        block = (column[start : start + _BLOCK].tolist() for column in columns)
        for stage, channel, digest in zip(*block, strict=True):
            place = stage, channel
            if place not in roots:
                if len(roots) == most:
                    continue
                roots[place] = MerkleDigest()
            try:
                raw = bytes.fromhex(digest.decode("ascii"))
            except ValueError:
                broken.add(place)
                raw = b""
            roots[place].append(merkle_leaf_hash(raw))
    return {
        (place[0], place[1].decode("utf-8", "replace")): (
            found.size,
            "not a root: a digest is not hexadecimal" if place in broken else found.root().hex(),
        )
        for place, found in roots.items()
    }


def row_digests(
    run: Run,
    tables: Mapping[int, StoredTables | Unreadable],
    bounds: Sequence[int],
    *,
    finished: bool,
) -> dict[tuple[int, int], str | Unreadable]:
    """Digest every rank's rows as the ranks did: trainers by stage, the owner all at once."""
    found: dict[tuple[int, int], str | Unreadable] = {}
    stages = len(bounds) - 1
    sizes = LedgerOrder(len(run.ranks) - 1, stages).checkpoint_sizes()
    changed = run.changed_ranks
    for rank, content in tables.items():
        for stage in range(stages) if rank else [stages]:
            if isinstance(content, Unreadable):
                found[rank, stage] = content
            elif rank in changed:
                found[rank, stage] = Unreadable("the file is not the one the finished run left")
            # Checkpoints and heads are not sealed: their sizes at least must be the due ones.
            elif not _sizes_fit(content, sizes, finished=finished):
                found[rank, stage] = Unreadable("its checkpoints are not those of the stages")
            elif rank:
                found[rank, stage] = _sealed_rows_digest(content, stage, bounds).hex
            # Nor are these columns; whoever reads the table should be able to rely on them.
            elif not _describes_its_entries(content, run, stages):
                found[rank, stage] = Unreadable("the ledger's columns do not fit its entries")
            else:
                index = run.index_content().digest()
                found[rank, stage] = owner_tables_digest(_sealed_rows_digest(content), index).hex
    return found


def _sizes_fit(content: StoredTables, sizes: Sequence[int], *, finished: bool) -> bool:
    """Tell whether the owner's checkpoints, or a trainer's copies, have the sizes they must."""
    found = np.concatenate(
        [table_column(content, name, "size") for name in ("checkpoints", "heads")]
    )
    return np.array_equal(found, sizes if finished else sizes[: len(found)])


def _describes_its_entries(content: StoredTables, run: Run, stages: int) -> bool:
    """Tell whether kind, segment and stage beside each envelope are those of the order."""
    order = LedgerOrder(len(run.ranks) - 1, stages)
    columns = (
        table_column(content, "ledger", name) for name in ("entry", "kind", "segment", "stage")
    )
    for index, (entry, kind, segment, stage) in enumerate(zip(*columns, strict=True)):
        if index >= order.size:
            return False
        entry_id = order.entry_at(index)
        of_stage = entry_id.kind in ("ticket", "handoff", "stage")
        no_segment = entry_id.kind in ("run", "delivery")
        wanted = (
            index,
            entry_id.kind.encode(),
            -1 if no_segment else entry_id.segment,
            entry_id.stage if of_stage else -1,
        )
        if (int(entry), bytes(kind), int(segment), int(stage)) != wanted:
            return False
    return True


def _sealed_rows_digest(
    content: StoredTables, stage: int | None = None, bounds: Sequence[int] = ()
) -> Digest:
    """Digest all rows, or those of one stage."""
    names = {table.name for table in DIGESTED_TABLES}
    # With the columns the file has: one added to it must not go unnoticed.
    chosen = {
        table: rows
        for table, rows in content.items()
        if table.name in names and (stage is None or "stage" in rows or "step" in rows)
    }
    running = RowsDigest(chosen)
    for table, rows in chosen.items():
        for block in _row_blocks(table, rows):
            running.add(table, block if stage is None else _stage_rows(block, stage, bounds))
    return running.digest()


def _row_blocks(table: Table, rows: StoredRows) -> Iterator[StoredRows]:
    for start in range(0, len(rows[table.axis]), _BLOCK):
        yield {name: values[start : start + _BLOCK] for name, values in rows.items()}


def _stage_rows(rows: StoredRows, stage: int, bounds: Sequence[int]) -> StoredRows:
    if "stage" in rows:
        # A row of no stage must not go unnoticed either.
        inside = np.clip(rows["stage"], 0, len(bounds) - 2) == stage
    else:
        # A row outside all steps goes to the first or last stage, or it would be in no digest.
        last = bounds[stage + 1] if stage + 2 < len(bounds) else np.iinfo(np.int64).max
        first = bounds[stage] if stage else np.iinfo(np.int64).min
        inside = (rows["step"] >= first) & (rows["step"] < last)
    return {name: values[inside] for name, values in rows.items()}
