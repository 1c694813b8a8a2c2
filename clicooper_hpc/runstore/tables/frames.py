"""Table rows as pandas frames and xarray datasets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from clicooper_hpc.errors import RunFolderError
from clicooper_hpc.runstore.tables.schema import Column, Table

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

__all__ = ["RankRows", "decode_texts", "rows_to_dataset", "rows_to_frame"]

#: Rows of one table: rank to column to values of shape (rows, ...).
RankRows = Mapping[int, Mapping[str, np.ndarray[Any, Any]]]


def rows_to_frame(table: Table, rows: RankRows, *, rank_column: bool) -> pd.DataFrame:
    """Return the rows of all ranks below each other, the axis first.

    A column holding arrays becomes one column per element, ``name_0``, ``name_1``, ...; text is
    decoded. ``frame.attrs["units"]`` maps columns to units. `RunFolderError` as `decode_texts`.
    """
    import pandas as pd  # late: a run is written without pandas

    parts = []
    units: dict[str, str] = {}
    for rank, columns in rows.items():
        flat: dict[str, Any] = {}
        count = len(columns[table.axis])
        if rank_column:
            flat["rank"] = np.full(count, rank, np.int64)
            units["rank"] = "1"
        for column in sorted(table.columns, key=lambda column: column.name != table.axis):
            values = columns[column.name]
            if values.dtype.kind in "SO":
                values = np.array(decode_texts(column, values), dtype=object)
            for place in np.ndindex(*column.shape):
                name = "_".join([column.name, *map(str, place)])
                flat[name] = values[(slice(None), *place)]
                units[name] = column.units
        parts.append(pd.DataFrame(flat))
    frame = pd.concat(parts, ignore_index=True)
    frame.attrs["units"] = units
    return frame


def decode_texts(column: Column, values: np.ndarray[Any, Any]) -> list[str]:
    """Return a column of text as strings.

    Raises
    ------
    RunFolderError
        A text is not UTF-8.
    """
    try:
        decoded: list[str] = np.strings.decode(values.astype(column.dtype), "utf-8").tolist()
    except UnicodeDecodeError as error:
        raise RunFolderError(
            f"column {column.name} holds text that is not UTF-8 ({error.reason})",
            remedy="Bring back the file the run wrote.",
        ) from None
    return decoded


def rows_to_dataset(
    tables: Mapping[str, tuple[Table, RankRows]], ranks: tuple[int, ...]
) -> xr.Dataset:
    """Return the scalar number columns of ``tables`` (all with axis ``step``) over (step, rank).

    float64 throughout, NaN where a rank has no such row; a step recorded twice counts as it was
    recorded last. ``epoch`` becomes a coordinate of ``step``.
    """
    import xarray as xr  # late, as pandas

    recorded = [rows["step"] for _, by_rank in tables.values() for rank, rows in by_rank.items()]
    steps = np.unique(np.concatenate([np.empty(0, np.int64), *recorded]))
    variables: dict[str, Any] = {}
    for table, by_rank in tables.values():
        for column in table.columns:
            # Arrays and text have no place on a (step, rank) grid of numbers.
            if column.shape or column.name == table.axis or np.dtype(column.dtype).kind == "S":
                continue
            # Whole numbers become floats too: NaN must be able to say "no such row".
            grid = np.full((len(steps), len(ranks)), np.nan)
            for place, rank in enumerate(ranks):
                if rank in by_rank:
                    rows = by_rank[rank]
                    grid[np.searchsorted(steps, rows["step"]), place] = rows[column.name]
            about = {"units": column.units, "long_name": column.long_name}
            variables[column.name] = (("step", "rank"), grid, about)
    coordinates: dict[str, Any] = {
        "step": ("step", steps, {"units": "1", "long_name": "Step of the run, counted from 0"}),
        "rank": ("rank", list(ranks), {"units": "1", "long_name": "Rank: 0 owner, then trainers"}),
    }
    if "epoch" in variables:
        _, grid, about = variables.pop("epoch")
        # fmax passes over NaN: ranks that lack the step do not blank its epoch.
        epochs = np.fmax.reduce(grid, axis=1) if grid.size else np.empty(len(steps))
        coordinates["epoch"] = ("step", epochs, about)
    return xr.Dataset(variables, coordinates)
