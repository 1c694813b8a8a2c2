"""What the ranks' tables show of a run: digests of signed rows, roots of message digests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from clicooper_hpc.digests import Digest
from clicooper_hpc.errors import RunFolderError
from clicooper_hpc.provenance.ledger_order import LedgerOrder
from clicooper_hpc.provenance.merkle import merkle_leaf_hash, merkle_root
from clicooper_hpc.runstore.reader import Run
from clicooper_hpc.runstore.signed_digests import owner_tables_digest, table_rows_digest
from clicooper_hpc.runstore.tables.schema import DIGESTED_TABLES, MESSAGES, Table
from clicooper_hpc.verification.evidence import Unreadable

__all__ = ["StoredTables", "message_roots", "read_tables", "row_digests", "table_column"]

StoredTables: TypeAlias = Mapping[Table, Mapping[str, np.ndarray[Any, Any]]]
"""Every table of one rank as stored, one array per column."""


def read_tables(run: Run, rank: int) -> StoredTables | Unreadable:
    """Read all tables of one rank; why that is not possible is a finding, not an error."""
    try:
        return run.stored_rows(rank)
    except RunFolderError as error:
        return Unreadable(error.what)


def table_column(tables: StoredTables, table: str, column: str) -> list[Any]:
    """Return one column as a list; empty if there is no such table."""
    for found, rows in tables.items():
        if found.name == table:
            return list(rows.get(column, ()))
    return []


def message_roots(tables: StoredTables) -> dict[tuple[int, str], tuple[int, str]]:
    """Return number and RFC 9162 root (hex) of the digests of every stage and channel.

    A root that cannot be taken, because a digest is none, is no hexadecimal text.
    """
    names = ("stage", "channel", "digest")
    columns = (table_column(tables, MESSAGES.name, name) for name in names)
    digests: dict[tuple[int, str], list[bytes]] = {}
    for stage, channel, digest in zip(*columns, strict=True):
        place = int(stage), bytes(channel).decode("utf-8", "replace")
        digests.setdefault(place, []).append(bytes(digest))
    return {place: (len(found), _root(found)) for place, found in digests.items()}


def _root(digests: Sequence[bytes]) -> str:
    try:
        raw = [bytes.fromhex(one.decode("ascii")) for one in digests]
    except ValueError:
        return "not a root: a digest is not hexadecimal"
    return merkle_root([merkle_leaf_hash(one) for one in raw]).hex()


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
                found[rank, stage] = _sealed_rows_digest(_stage_rows(content, stage, bounds)).hex
            # Nor are these columns; whoever reads the table should be able to rely on them.
            elif not _describes_its_entries(content, run, stages):
                found[rank, stage] = Unreadable("the ledger's columns do not fit its entries")
            else:
                index = run.index_content().digest()
                found[rank, stage] = owner_tables_digest(_sealed_rows_digest(content), index).hex
    return found


def _sizes_fit(content: StoredTables, sizes: Sequence[int], *, finished: bool) -> bool:
    """Tell whether the owner's checkpoints, or a trainer's copies, have the sizes they must."""
    found = [
        int(size)
        for name in ("checkpoints", "heads")
        for size in table_column(content, name, "size")
    ]
    return found == list(sizes if finished else sizes[: len(found)])


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


def _sealed_rows_digest(content: StoredTables) -> Digest:
    names = {table.name: table for table in DIGESTED_TABLES}
    # The tables as this version knows them: a column added to a file must not go unnoticed.
    return table_rows_digest(
        {table: rows for table, rows in content.items() if table.name in names}
    )


def _stage_rows(
    content: StoredTables, stage: int, bounds: Sequence[int]
) -> dict[Table, dict[str, np.ndarray[Any, Any]]]:
    chosen: dict[Table, dict[str, np.ndarray[Any, Any]]] = {}
    for table, rows in content.items():
        if "stage" in rows:
            # A row of no stage must not go unnoticed either.
            inside = np.clip(rows["stage"], 0, len(bounds) - 2) == stage
        elif "step" in rows:
            # A row outside all steps goes to the first or last stage, or it would be in no digest.
            last = bounds[stage + 1] if stage + 2 < len(bounds) else np.iinfo(np.int64).max
            first = bounds[stage] if stage else np.iinfo(np.int64).min
            inside = (rows["step"] >= first) & (rows["step"] < last)
        else:
            continue
        chosen[table] = {name: values[inside] for name, values in rows.items()}
    return chosen
