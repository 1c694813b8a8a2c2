"""``/metrics`` of ``run.h5``: while a run goes on views of the ranks' tables, at its end arrays.

Views are virtual datasets over the shards (or, in layout "single", over the tables of the same
file). They grow with the shards, so they are made once, before any shard exists. A shard that is
missing reads as fill values without a word: that is HDF5's rule, and why `Run` counts shards
itself. Most other programs show no view or the wrong thing, so a complete run has arrays.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Protocol

import h5py
import numpy as np

from clicooper_hpc.runstore.hdf5.files import (
    add_hdf5_dataset,
    nexus_attributes,
    set_hdf5_attributes,
)
from clicooper_hpc.runstore.hdf5.view_scales import ViewScales
from clicooper_hpc.runstore.run_folder import shard_file_name
from clicooper_hpc.runstore.tables.frames import RankRows
from clicooper_hpc.runstore.tables.schema import COMPLETE, STEPS, TRAINING, Column, Table
from clicooper_hpc.runstore.tables.storage import COMPACT_BYTES, GROWING

__all__ = ["Layout", "add_metrics", "copy_metrics"]

Layout = Literal["shards", "single"]


def add_metrics(
    file: Any,
    tables: Mapping[int, Sequence[Table]],
    *,
    layout: Layout,
    rows: Mapping[str, int] | None = None,
) -> None:
    """Add the group ``metrics`` of views to the index ``file``, which has ``rank`` already.

    * every column of `STEPS` and its marker: shape [step, rank];
    * every column of `TRAINING`: shape [step] from the last trainer, and with ``_by_rank`` added
      to the name [step, rank], NaN for ranks that do not train;
    * ``step`` and ``epoch``: shape [step], of the last rank.

    Row i is the i-th step a rank recorded. ``rows`` (layout "single") gives each table's length.
    """
    have = {rank: {table.name for table in some} for rank, some in tables.items()}
    walking = [rank for rank, names in have.items() if STEPS.name in names]
    training = [rank for rank, names in have.items() if TRAINING.name in names]
    views = _Views(layout, rows or {}, max(tables) + 1)
    scales = ViewScales()
    _fill_metrics(file, views, scales.name_axes, walking, training)
    scales.write()


def copy_metrics(file: Any, steps: RankRows, training: RankRows, *, ranks: int) -> None:
    """Add the group ``metrics`` with what views of these rows would show.

    Parameters
    ----------
    steps, training
        Rows of the two tables by rank.
    ranks
        Number of ranks; those without rows show fill values.
    """
    arrays = _Arrays({STEPS.name: steps, TRAINING.name: training}, ranks)
    _fill_metrics(file, arrays, _attach_axes, list(steps), list(training))


class _Maker(Protocol):
    """Makes the datasets of ``metrics``."""

    def line(self, group: Any, table: Table, column: Column, rank: int) -> Any:
        """One rank's column, shape [step]."""

    def grid(
        self, group: Any, name: str, table: Table, column: Column, ranks: Sequence[int]
    ) -> Any:
        """One column of many ranks, shape [step, rank]."""


def _fill_metrics(
    file: Any,
    maker: _Maker,
    name_axes: Callable[..., None],
    walking: Sequence[int],
    training: Sequence[int],
) -> None:
    group = file.create_group("metrics")
    # Nothing to show, and `max` of no ranks.
    if not walking:
        return
    step = maker.line(group, STEPS, STEPS.column("step"), max(walking))
    step.make_scale("step")
    _add_rank_coordinate(group, file["rank"])
    for column in (*STEPS.columns, COMPLETE):
        if column.name == "epoch":
            name_axes(maker.line(group, STEPS, column, max(walking)), step)
        elif column.name != "step":
            name_axes(maker.grid(group, column.name, STEPS, column, walking), step, file["rank"])
    for column in TRAINING.columns if training else ():
        if column.name != TRAINING.axis:
            name_axes(maker.line(group, TRAINING, column, max(training)), step)
            by_rank = maker.grid(group, f"{column.name}_by_rank", TRAINING, column, training)
            name_axes(by_rank, step, file["rank"])
    if training:
        set_hdf5_attributes(group, nexus_attributes("step", *TRAINING.signals))


def _add_rank_coordinate(group: Any, scale: Any) -> None:
    """Add the numbers of the ranks once more, as a variable over the dimension of the root.

    netCDF-4 finds dimensions in the groups above, but xarray takes coordinates from the very group
    that it opens: ``open_dataset(group="metrics")`` would have an axis ``rank`` without labels.
    """
    about = {name: scale.attrs[name].decode() for name in ("units", "long_name")}
    add_hdf5_dataset(group, "rank", scale[:], axis=scale, **about)


def _attach_axes(dataset: Any, *scales: Any) -> None:
    for axis, scale in enumerate(scales):
        dataset.dims[axis].attach_scale(scale)
        dataset.dims[axis].label = scale.name.rsplit("/", 1)[-1]


class _Views:
    """Virtual datasets over the tables of all ranks."""

    def __init__(self, layout: Layout, rows: Mapping[str, int], ranks: int) -> None:
        self._layout = layout
        self._rows = rows
        self._ranks = ranks

    def line(self, group: Any, table: Table, column: Column, rank: int) -> Any:
        """One rank's column, shape [step]."""
        shape, limit, cut = self._extent(table)
        view = h5py.VirtualLayout((shape,), column.dtype, maxshape=(limit,))
        view[:cut] = self._source(table, column, rank)[:cut]
        return self._add(group, column.name, view, column, column.long_name)

    def grid(
        self, group: Any, name: str, table: Table, column: Column, ranks: Sequence[int]
    ) -> Any:
        """One column of many ranks, shape [step, rank]."""
        shape, limit, cut = self._extent(table)
        view = h5py.VirtualLayout((shape, self._ranks), column.dtype, maxshape=(limit, self._ranks))
        for rank in ranks:
            view[:cut, rank] = self._source(table, column, rank)[:cut]
        return self._add(group, name, view, column, f"{column.long_name}, by rank")

    def _extent(self, table: Table) -> tuple[int, int | None, Any]:
        # Growing views start at length 1: one of length 0 stays empty.
        if self._layout == "shards":
            return 1, None, h5py.h5s.UNLIMITED
        count = self._rows[table.name]
        return count, count, count

    def _source(self, table: Table, column: Column, rank: int) -> Any:
        shape, limit, _ = self._extent(table)
        place = f"{table.name}/{column.name}"
        file, path = (shard_file_name(rank), place)
        if self._layout == "single":
            # "." is the very file: HDF5's name for a source beside the view.
            file, path = ".", f"ranks/{rank:03d}/{place}"
        return h5py.VirtualSource(file, path, (shape,), column.dtype, maxshape=(limit,))

    def _add(self, group: Any, name: str, view: Any, column: Column, long_name: str) -> Any:
        # The fill value shows where a shard is missing: NaN or -1, never a plausible number.
        dataset = group.create_virtual_dataset(name, view, fillvalue=np.array(column.fill))
        set_hdf5_attributes(dataset, {"units": column.units, "long_name": long_name})
        return dataset


class _Arrays:
    """Arrays of the values that views would show."""

    def __init__(self, rows: Mapping[str, RankRows], ranks: int) -> None:
        self._rows = rows
        self._ranks = ranks
        # All of one length, the longest, as axes have it; ranks of a complete run do not differ.
        self._steps = max([0, *(len(one["step"]) for one in rows[STEPS.name].values())])

    def line(self, group: Any, table: Table, column: Column, rank: int) -> Any:
        """One rank's column, shape [step]."""
        by_rank = self._rows[table.name]
        if table is STEPS:
            # The axis of all: where ranks stopped at different steps, of one that came farthest.
            rank = max(by_rank, key=lambda one: (len(by_rank[one]["step"]), one))
        values = self._padded(column, by_rank[rank])
        return self._add(group, column.name, values, column, column.long_name)

    def grid(
        self, group: Any, name: str, table: Table, column: Column, ranks: Sequence[int]
    ) -> Any:
        """One column of many ranks, shape [step, rank]."""
        values = np.full((self._steps, self._ranks), column.fill, column.dtype)
        for rank in ranks:
            values[:, rank] = self._padded(column, self._rows[table.name][rank])
        return self._add(group, name, values, column, f"{column.long_name}, by rank")

    def _padded(self, column: Column, rows: Mapping[str, np.ndarray[Any, Any]]) -> Any:
        values = np.full(self._steps, column.fill, column.dtype)
        count = len(rows["step"])
        # Rows that are shown are complete; the marker is no column of theirs.
        values[:count] = 1 if column is COMPLETE else rows[column.name]
        return values

    def _add(self, group: Any, name: str, values: Any, column: Column, long_name: str) -> Any:
        row = values.dtype.itemsize * int(np.prod(values.shape[1:]))
        dataset = group.create_dataset(
            name,
            data=values,
            maxshape=(None, *values.shape[1:]),
            chunks=(max(1, min(COMPACT_BYTES, COMPACT_BYTES // row)), *values.shape[1:]),
            fillvalue=column.fill,
            **GROWING,
        )
        set_hdf5_attributes(dataset, {"units": column.units, "long_name": long_name})
        return dataset
