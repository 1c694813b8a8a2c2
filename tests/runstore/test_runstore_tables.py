from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clicooper_hpc.runstore.tables.schema import (
    COMPLETE,
    OWNER_TABLES,
    TRAINER_TABLES,
    Column,
    Table,
)
from clicooper_hpc.runstore.tables.storage import (
    create_stored_table,
    find_stored_tables,
    read_stored_rows,
    stored_table,
    write_stored_rows,
)
from clicooper_hpc.runstore.tables.writer import RowBuffer

PROOFS = Table(
    "proofs",
    "stage",
    "A later table: text and arrays",
    (
        Column("stage", "int64", "1", "Stage"),
        Column("digest", "S8", "text", "Digest"),
        Column("mark", "float32", "1", "Mark", (2, 3)),
        Column("ok", "uint8", "1", "Verdict"),
    ),
)


def proof(stage: int, changes: Mapping[str, Any] | None = None) -> dict[str, Any]:
    mark = np.full((2, 3), stage, np.float32)
    return {"stage": stage, "digest": f"é{stage}", "mark": mark, "ok": 1} | dict(changes or {})


@pytest.fixture
def group() -> Any:
    with h5py.File.in_memory() as file:
        yield create_stored_table(file, PROOFS)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.lists(st.integers(0, 10**6), max_size=150), max_size=4))
def test_rows_come_back_as_they_went_in_however_they_are_grouped(blocks: list[list[int]]) -> None:
    with h5py.File.in_memory() as file:
        group = create_stored_table(file, PROOFS)
        start = 0
        for block in blocks:
            buffer = RowBuffer(PROOFS)
            for stage in block:
                buffer.add_row(proof(stage, {"digest": str(stage)}))
            if block:
                write_stored_rows(group, start, buffer.take_rows())
                write_stored_rows(group, start, {COMPLETE.name: np.ones(len(block))})
            start += len(block)
        rows = read_stored_rows(group)
    stages = [stage for block in blocks for stage in block]
    assert rows["stage"].tolist() == stages
    assert [text.decode() for text in rows["digest"]] == [str(stage) for stage in stages]
    assert rows["mark"].shape == (len(stages), 2, 3)
    assert (rows["mark"] == np.array(stages, np.float32)[:, None, None]).all()


def test_a_row_without_marker_is_not_there(group: Any) -> None:
    buffer = RowBuffer(PROOFS)
    for stage in range(4):
        buffer.add_row(proof(stage))
    write_stored_rows(group, 0, buffer.take_rows())
    assert read_stored_rows(group)["stage"].tolist() == []
    write_stored_rows(group, 0, {COMPLETE.name: np.array([1, 0, 1], np.uint8)})
    assert read_stored_rows(group)["stage"].tolist() == [0, 2]


@pytest.mark.parametrize("table", [*OWNER_TABLES, *TRAINER_TABLES, PROOFS])
def test_a_table_is_described_by_its_file(table: Table) -> None:
    with h5py.File.in_memory() as file:
        create_stored_table(file, table)
        ((name, group),) = find_stored_tables(file)
        again = stored_table(group)
    assert (name, again.axis, again.long_name) == (table.name, table.axis, table.long_name)
    assert [(c.name, np.dtype(c.dtype), c.units, c.shape) for c in again.columns] == [
        (c.name, np.dtype(c.dtype), c.units, c.shape) for c in table.columns
    ]


def test_places_never_written_cannot_be_taken_for_values(group: Any) -> None:
    for name in ("stage", "mark", "digest", "complete"):
        group[name].resize(1, axis=0)
    assert group["stage"][0] == -1
    assert np.isnan(group["mark"][0]).all()
    assert group["digest"][0].tobytes() == bytes(8)
    assert group["complete"][0] == 0


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"wrong": 1}, "no column"),
        ({"stage": 1.5}, "cannot hold"),
        ({"stage": 2**70}, "cannot hold"),
        ({"ok": 256}, "cannot hold"),
        ({"ok": -1}, "cannot hold"),
        ({"mark": np.zeros(3)}, "shape"),
        ({"digest": "longer than eight"}, "up to 8 bytes"),
        ({"digest": 7}, "up to 8 bytes"),
    ],
)
def test_a_value_a_column_cannot_hold_is_refused_before_anything_is_kept(
    changes: dict[str, Any], says: str
) -> None:
    buffer = RowBuffer(PROOFS)
    with pytest.raises(ValueError, match=says):
        buffer.add_row(proof(0, changes))
    assert len(buffer) == 0


def test_only_floats_may_be_left_out() -> None:
    buffer = RowBuffer(PROOFS)
    row = proof(0)
    del row["mark"]
    buffer.add_row(row)
    assert math.isnan(buffer.take_rows()["mark"][0, 0, 0])
    del row["ok"]
    with pytest.raises(ValueError, match="ok is missing"):
        buffer.add_row(row)


@pytest.mark.parametrize(
    ("name", "dtype", "units"),
    [("a b", "float64", "s"), ("a", "object", "s"), ("a", "U5", "s"), ("a", "float64", "")],
)
def test_a_column_without_meaning_cannot_be_declared(name: str, dtype: str, units: str) -> None:
    with pytest.raises(ValueError, match=r"column|dtype"):
        Column(name, dtype, units, "long name")


def test_a_table_needs_its_axis_and_leaves_the_marker_to_the_writer() -> None:
    step = Column("step", "int64", "1", "Step")
    with pytest.raises(ValueError, match="axis"):
        Table("t", "epoch", "T", (step,))
    with pytest.raises(ValueError, match="complete"):
        Table("t", "step", "T", (step, COMPLETE))
