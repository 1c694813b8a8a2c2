"""Tables as HDF5 groups: made, recognised, written, and read as far as rows are complete."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import prod
from typing import Any

import h5py
import numpy as np

from clicooper_hpc.runstore.hdf5.files import set_hdf5_attributes
from clicooper_hpc.runstore.tables.schema import COMPLETE, Column, Table

__all__ = [
    "COMPACT_BYTES",
    "LIVE_ROWS",
    "Rows",
    "create_stored_table",
    "find_stored_tables",
    "read_stored_rows",
    "stored_columns",
    "stored_table",
    "write_stored_rows",
]

Rows = dict[str, np.ndarray[Any, Any]]

#: Rows per chunk while a run writes. Each flush writes the last, part-filled chunk anew in a new
#: place, so large chunks would make a file many times the size of its content.
LIVE_ROWS = 64
#: Bytes per chunk once a file is closed for good.
COMPACT_BYTES = 65536


def create_stored_table(
    parent: Any,
    table: Table,
    *,
    rows: int | None = None,
    live: bool = True,
    allocate: bool = True,
) -> Any:
    """Add the group of ``table`` to ``parent``, with its marker, scale, units and long names.

    With ``rows`` the table has that many rows from the start, uncompressed and (``allocate``) with
    its space allocated, for writing by several ranks at once. Else it is empty and grows:
    compressed, with checksums, in chunks for appending (``live``) or for reading.
    """
    # Columns come back in the order of the table, not of the alphabet.
    group = parent.create_group(table.name, track_order=True)
    set_hdf5_attributes(group, {"axis": table.axis, "long_name": table.long_name})
    options = {
        column.name: _column_options(column, rows, live=live, allocate=allocate)
        for column in (*table.columns, COMPLETE)
    }
    scale = _create_stored_column(group, table.column(table.axis), options[table.axis])
    scale.make_scale(table.axis)
    for column in (*table.columns, COMPLETE):
        if column.name != table.axis:
            dataset = _create_stored_column(group, column, options[column.name])
            dataset.dims[0].attach_scale(scale)
            dataset.dims[0].label = table.axis
    return group


def _column_options(
    column: Column, rows: int | None, *, live: bool, allocate: bool
) -> dict[str, Any]:
    """Return how a column lies in the file, for `h5py.Group.create_dataset`."""
    row_bytes = max(1, np.dtype(column.dtype).itemsize * prod(column.shape))
    if rows is None:
        wanted = LIVE_ROWS if live else COMPACT_BYTES
        chunk = max(1, min(wanted, COMPACT_BYTES // row_bytes))
        return {
            "shape": (0, *column.shape),
            "maxshape": (None, *column.shape),
            "chunks": (chunk, *column.shape),
            # gzip is in every HDF5; others would need a plugin to read a run.
            "compression": "gzip",
            "compression_opts": 4,
            "shuffle": True,
            "fletcher32": True,
        }
    early = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    if allocate:
        # Space at once: a rank that writes into it later changes no structure of the shared file.
        early.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
        early.set_fill_time(h5py.h5d.FILL_TIME_ALLOC)
    return {"shape": (rows, *column.shape), "dcpl": early}


def _create_stored_column(group: Any, column: Column, options: Mapping[str, Any]) -> Any:
    dtype = np.dtype(column.dtype)
    stored = h5py.string_dtype("utf-8", dtype.itemsize) if dtype.kind == "S" else dtype
    dataset = group.create_dataset(column.name, dtype=stored, fillvalue=column.fill, **options)
    set_hdf5_attributes(dataset, {"units": column.units, "long_name": column.long_name})
    return dataset


def find_stored_tables(parent: Any) -> Iterator[tuple[str, Any]]:
    """Yield name and group of every table directly under ``parent``."""
    for name, item in parent.items():
        # The marker tells a table from any other group with an axis.
        if isinstance(item, h5py.Group) and "axis" in item.attrs and COMPLETE.name in item:
            yield name, item


def stored_table(group: Any) -> Table:
    """Read back which table a group holds; the inverse of `create_stored_table`."""
    columns = tuple(
        Column(
            name,
            item.dtype.str,
            item.attrs["units"].decode("utf-8"),
            item.attrs["long_name"].decode("utf-8"),
            tuple(item.shape[1:]),
        )
        for name, item in group.items()
        if name != COMPLETE.name
    )
    axis, long_name = (group.attrs[key].decode("utf-8") for key in ("axis", "long_name"))
    return Table(group.name.rsplit("/", 1)[-1], axis, long_name, columns)


def stored_columns(group: Any) -> dict[str, Any]:
    """Return the datasets of a table, marker included.

    A writer holds on to them: looking one up may read the disk, and closing one writes what HDF5
    still keeps of it, where an error would be lost.
    """
    return dict(group.items())


def write_stored_rows(
    columns: Mapping[str, Any], start: int, rows: Mapping[str, np.ndarray[Any, Any]]
) -> None:
    """Write ``rows`` (arrays of one length) from row ``start`` on, growing the table if it can."""
    for name, values in rows.items():
        dataset = columns[name]
        stop = start + len(values)
        if len(dataset) < stop:
            dataset.resize(stop, axis=0)
        # astype: text gets the dataset's encoding, which HDF5 will not convert to by itself.
        dataset[start:stop] = values.astype(dataset.dtype)


def read_stored_rows(group: Any) -> Rows:
    """Return every column, rows with a marker only, in the order written.

    The marker is read before the columns, and those are then looked up anew: whatever a live
    writer adds meanwhile, each row found complete is complete in every column.
    """
    done = np.flatnonzero(group[COMPLETE.name][:] == 1)
    stop = int(done[-1]) + 1 if done.size else 0
    rows: Rows = {}
    for name, dataset in group.items():
        if name != COMPLETE.name:
            # The file may remember the column's length from before the marker was read.
            dataset.refresh()
            # Cut first: rows behind the last complete one may be half written.
            rows[name] = dataset[:stop][done]
    return rows
