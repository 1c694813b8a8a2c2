"""What tables show: right whatever the block they are read in, in memory that does not grow."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from clicooper_hpc.provenance.merkle import merkle_leaf_hash, merkle_root
from clicooper_hpc.runstore.signed_digests import RowsDigest
from clicooper_hpc.runstore.tables.schema import MESSAGES
from clicooper_hpc.verification import table_evidence
from clicooper_hpc.verification.table_evidence import StoredTables, message_roots

CHANNELS = np.array([b"forward_in", b"forward_out", b"backward_in"], "S16")


def messages(rows: int, stages: int = 2) -> StoredTables:
    at = np.arange(rows)
    digests = np.array([f"{one % 7:064x}".encode() for one in range(7)], "S64")
    return {
        MESSAGES: {
            "message": at,
            "stage": at * stages // max(1, rows),
            "channel": CHANNELS[at % 3],
            "step": at // 3,
            "micro_batch": np.zeros(rows, np.int64),
            "digest": digests[at % 7],
        }
    }


def test_the_roots_are_those_of_all_digests_of_a_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_evidence, "_BLOCK", 7)
    tables = messages(50)
    rows = tables[MESSAGES]
    found = message_roots(tables, 2)
    assert sum(count for count, _ in found.values()) == 50
    for (stage, channel), (count, root) in found.items():
        inside = (rows["stage"] == stage) & (rows["channel"] == channel.encode())
        leaves = [merkle_leaf_hash(bytes.fromhex(one.decode())) for one in rows["digest"][inside]]
        assert (count, root) == (len(leaves), merkle_root(leaves).hex())


def test_blocks_change_no_digest_of_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_evidence, "_BLOCK", 7)
    tables = messages(50)
    whole = RowsDigest(tables)
    whole.add(MESSAGES, tables[MESSAGES])
    assert table_evidence._sealed_rows_digest(tables) == whole.digest()
    first = RowsDigest(tables)
    first.add(MESSAGES, {name: values[:25] for name, values in tables[MESSAGES].items()})
    assert table_evidence._sealed_rows_digest(tables, 0, (0, 9, 18)) == first.digest()


def test_a_digest_that_is_none_has_no_root() -> None:
    tables = messages(6)
    tables[MESSAGES]["digest"][4] = b"no digest"
    assert [root[:10] for _, root in message_roots(tables, 2).values()].count("not a root") == 1


def test_memory_does_not_grow_with_the_rows() -> None:
    """It once did, by 400 bytes a row: a file of 5 MB filled 2 GB."""
    tables = messages(400_000)
    # Every row a stage of its own, as a stranger may write.
    hostile = {MESSAGES: {**tables[MESSAGES], "stage": np.arange(400_000)}}
    tracemalloc.start()
    try:
        message_roots(tables, 2)
        found = message_roots(hostile, 2)
        for stage in (None, 0):
            table_evidence._sealed_rows_digest(tables, stage, (0, 9, 18))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 40_000_000
    # Enough to see that there are more than there may be.
    assert 8 < len(found) < 100
