"""Tables as HDF5 groups: made, recognised, written, and read as far as rows are complete."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import prod
from typing import Any, Final

import h5py
import numpy as np

from clicooper_hpc.runstore.hdf5.characters import (
    CHARACTER,
    ENCODING,
    attach_character_scale,
    characters_to_texts,
    is_character_scale,
    texts_to_characters,
    vet_characters,
)
from clicooper_hpc.runstore.hdf5.files import nexus_attributes, set_hdf5_attributes
from clicooper_hpc.runstore.hdf5.typed import (
    hdf5_dataset,
    hdf5_group,
    read_hdf5_text_attribute,
)
from clicooper_hpc.runstore.hdf5.vetting import UnexpectedContentError
from clicooper_hpc.runstore.tables.schema import COMPLETE, KNOWN_TABLES, Column, Table

__all__ = [
    "COMPACT_BYTES",
    "GROWING",
    "LIVE_ROWS",
    "Rows",
    "copy_stored_table",
    "create_stored_table",
    "find_stored_tables",
    "read_stored_rows",
    "stored_columns",
    "stored_table",
    "with_complete_marker",
    "write_stored_rows",
]

Rows = dict[str, np.ndarray[Any, Any]]

#: Rows per chunk while a run writes. Each flush writes the last, part-filled chunk anew in a new
#: place, so large chunks would make a file many times the size of its content.
LIVE_ROWS = 64
#: Bytes per chunk once a file is closed for good.
COMPACT_BYTES = 65536
#: How columns that grow are stored. gzip is in every HDF5; others would need a plugin to be read.
GROWING: Final[Mapping[str, Any]] = {
    "compression": "gzip",
    "compression_opts": 4,
    "shuffle": True,
    "fletcher32": True,
}


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
    set_hdf5_attributes(group, nexus_attributes(table.axis, *table.signals))
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
            **GROWING,
        }
    early = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    if allocate:
        # Space at once: a rank that writes into it later changes no structure of the shared file.
        early.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
        early.set_fill_time(h5py.h5d.FILL_TIME_ALLOC)
    return {"shape": (rows, *column.shape), "dcpl": early}


def _create_stored_column(group: Any, column: Column, options: Mapping[str, Any]) -> Any:
    dtype = np.dtype(column.dtype)
    about = {"units": column.units, "long_name": column.long_name}
    if dtype.kind != "S":
        dataset = group.create_dataset(column.name, dtype=dtype, fillvalue=column.fill, **options)
        set_hdf5_attributes(dataset, about)
        return dataset
    # One more axis, of characters. No fill value: where nothing was written there is no text.
    more = {
        key: (*options[key], dtype.itemsize)
        for key in ("shape", "maxshape", "chunks")
        if key in options
    }
    dataset = group.create_dataset(column.name, dtype=CHARACTER, **{**options, **more})
    set_hdf5_attributes(dataset, {**about, **ENCODING})
    attach_character_scale(dataset, group)
    return dataset


def find_stored_tables(parent: Any) -> Iterator[tuple[str, Any]]:
    """Yield name and group of everything directly under ``parent``, which are tables."""
    for name in parent:
        yield name, hdf5_group(parent, name)


def stored_table(group: Any) -> Table:
    """Read back which table a group holds; the inverse of `create_stored_table`.

    Raises
    ------
    UnexpectedContentError
        It is no table, or one whose name is in `KNOWN_TABLES` without its columns and dtypes.
    """
    name = group.name.rsplit("/", 1)[-1]
    _stored_marker(group)
    axis, long_name = (read_hdf5_text_attribute(group, key) for key in ("axis", "long_name"))
    signals = tuple(
        read_hdf5_text_attribute(group, key)
        for key in ("signal", "auxiliary_signals")
        if key in group.attrs
    )
    columns = [
        _stored_column(group, one)
        for one in group
        if one != COMPLETE.name and not is_character_scale(one)
    ]
    try:
        table = Table(name, axis, long_name, tuple(columns), signals)
    except ValueError as error:
        raise UnexpectedContentError(group.name, str(error)) from None
    known = KNOWN_TABLES.get(name)
    for wanted in () if known is None else known.columns:
        found = next((one for one in columns if one.name == wanted.name), None)
        # As stored, not as named: every reader below relies on it.
        if found is None or (np.dtype(found.dtype), found.shape) != (
            np.dtype(wanted.dtype),
            wanted.shape,
        ):
            shown = "missing" if found is None else f"{found.dtype}, {found.shape} a row"
            raise UnexpectedContentError(
                f"{group.name}/{wanted.name}",
                f"is {shown}; expected is {wanted.dtype}, {wanted.shape} a row",
            )
    if known is not None and axis != known.axis:
        raise UnexpectedContentError(f"{group.name} (attribute axis)", f"is {axis!r}")
    return table


def _stored_column(group: Any, name: str) -> Column:
    dataset = hdf5_dataset(group, name, kinds="ifuS")
    dtype, shape = dataset.dtype.str, dataset.shape[1:]
    if dataset.dtype.kind == "S" and shape:
        vet_characters(dataset)
        dtype, shape = f"S{shape[-1]}", shape[:-1]
    elif dataset.ndim < 1 or dataset.dtype.kind == "S":
        raise UnexpectedContentError(dataset.name, "is a single value; expected is a column")
    units, long_name = (read_hdf5_text_attribute(dataset, key) for key in ("units", "long_name"))
    try:
        return Column(name, dtype, units, long_name, tuple(shape))
    except ValueError as error:
        raise UnexpectedContentError(dataset.name, str(error)) from None


def _stored_marker(group: Any) -> Any:
    return hdf5_dataset(group, COMPLETE.name, kinds="iu", dimensions=1)


def stored_columns(group: Any) -> dict[str, Any]:
    """Return the datasets of a table, marker included.

    A writer holds on to them: looking one up may read the disk, and closing one writes what HDF5
    still keeps of it, where an error would be lost.
    """
    # Axes of characters are not so much as opened: in a file that all ranks share HDF5 allocates
    # what it opens and finds without storage; what one rank alone allocates ends in a deadlock.
    return {name: group[name] for name in group if not is_character_scale(name)}


def write_stored_rows(
    columns: Mapping[str, Any], start: int, rows: Mapping[str, np.ndarray[Any, Any]]
) -> None:
    """Write ``rows`` (arrays of one length) from row ``start`` on, growing the table if it can."""
    for name, values in rows.items():
        dataset = columns[name]
        stop = start + len(values)
        if len(dataset) < stop:
            dataset.resize(stop, axis=0)
        if values.dtype.kind == "S":
            # Of the column's length first, shorter texts padded with NUL.
            length = dataset.shape[-1]
            values = texts_to_characters(values.astype(f"S{length}"))
        # astype: text gets the dataset's encoding, which HDF5 will not convert to by itself.
        dataset[start:stop] = values.astype(dataset.dtype)


def copy_stored_table(parent: Any, table: Table, rows: Rows) -> None:
    """Add ``table`` with these complete rows to ``parent``, for good."""
    # Large chunks: nothing is appended any more, and readers want few of them.
    columns = stored_columns(create_stored_table(parent, table, live=False))
    write_stored_rows(columns, 0, with_complete_marker(table, rows))


def with_complete_marker(table: Table, rows: Rows) -> Rows:
    """Return ``rows`` with the marker that says that each is complete."""
    return {**rows, COMPLETE.name: np.ones(len(rows[table.axis]), COMPLETE.dtype)}


def read_stored_rows(group: Any) -> Rows:
    """Return every column, rows with a marker only, in the order written.

    The marker is read before the columns, and those are then looked up anew: whatever a live
    writer adds meanwhile, each row found complete is complete in every column.
    """
    done = np.flatnonzero(_stored_marker(group)[:] == 1)
    stop = int(done[-1]) + 1 if done.size else 0
    rows: Rows = {}
    for name, dataset in stored_columns(group).items():
        if name != COMPLETE.name:
            # The file may remember the column's length from before the marker was read.
            dataset.refresh()
            if len(dataset) < stop:
                raise UnexpectedContentError(
                    dataset.name, f"has {len(dataset)} rows; {stop} are marked complete"
                )
            # Cut first: rows behind the last complete one may be half written.
            values = dataset[:stop][done]
            rows[name] = characters_to_texts(values) if values.dtype.kind == "S" else values
    return rows
