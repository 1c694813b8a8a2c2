"""``/metrics`` of ``run.h5``: virtual datasets over the ranks' tables, nothing copied.

Virtual datasets over the shards (or, in layout "single", over the tables of the same file). They
grow with the shards, so they are made once, before any shard exists. A shard that is missing
reads as fill values without a word: that is HDF5's rule, and why `Run` counts shards itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import h5py
import numpy as np

from clicooper_hpc.runstore.hdf5.files import set_hdf5_attributes
from clicooper_hpc.runstore.hdf5.view_scales import ViewScales
from clicooper_hpc.runstore.run_folder import shard_file_name
from clicooper_hpc.runstore.tables.schema import COMPLETE, STEPS, TRAINING, Column, Table

__all__ = ["Layout", "add_metrics"]

Layout = Literal["shards", "single"]


def add_metrics(
    file: Any,
    tables: Mapping[int, Sequence[Table]],
    *,
    layout: Layout,
    rows: Mapping[str, int] | None = None,
) -> None:
    """Add the group ``metrics`` to the index ``file``, which has the dataset ``rank`` already.

    * every column of `STEPS` and its marker: shape [step, rank];
    * every column of `TRAINING`: shape [step] from the last trainer, and with ``_by_rank`` added
      to the name [step, rank], NaN for ranks that do not train;
    * ``step`` and ``epoch``: shape [step], of the last rank.

    Row i is the i-th step a rank recorded. ``rows`` (layout "single") gives each table's length.
    """
    maker = _MetricsMaker(file, layout, rows or {}, max(tables))
    group = file.create_group("metrics")
    have = {rank: {table.name for table in some} for rank, some in tables.items()}
    walking = [rank for rank, names in have.items() if STEPS.name in names]
    training = [rank for rank, names in have.items() if TRAINING.name in names]
    # Nothing to show, and `max` of no ranks.
    if not walking:
        return
    scales = ViewScales()
    name_axes = scales.name_axes
    step = maker.line(group, STEPS, STEPS.column("step"), max(walking))
    step.make_scale("step")
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
    scales.write()


class _MetricsMaker:
    def __init__(self, file: Any, layout: Layout, rows: Mapping[str, int], last: int) -> None:
        self._layout = layout
        self._rows = rows
        self._ranks = last + 1

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
