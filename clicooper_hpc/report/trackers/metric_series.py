"""`MetricSeries`: one number of one rank over the steps of a run, with the times of its points."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from clicooper_hpc.report.trackers.run_record import RunRecord
from clicooper_hpc.runstore.tables.schema import PROVING, RELEASES, SPLIT_CODES, STEPS, Table

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["MetricSeries", "metric_series"]

#: Columns that say which row it is.
_PLACES: Final = ("step", "stage", "split")
_Clock = tuple[NDArray[np.int64], NDArray[np.float64]]


@dataclass(frozen=True, slots=True)
class MetricSeries:
    """One metric of one rank.

    Attributes
    ----------
    table, column
        Where it stands; of releases the table has the split in its name: ``releases/train``.
    steps
        int64 [points]: step of the run, or stage where the table is ``proving``.
    values
        float64 [points]; NaN where there is none.
    times
        float64 [points]: seconds since 1970. A run records no clock but the length of its steps:
        this is the beginning of the run and the time in steps since; pauses between starts are not
        in it.
    """

    table: str
    column: str
    steps: NDArray[np.int64]
    values: NDArray[np.float64]
    times: NDArray[np.float64]

    @property
    def name(self) -> str:
        """Table and column."""
        return f"{self.table}/{self.column}"


def metric_series(record: RunRecord) -> dict[str, list[MetricSeries]]:
    """Return every column of numbers by rank: ``owner``, ``trainer-1``, ...

    Columns that hold no number at all are left out: trainers but the last compute no loss.
    """
    clocks = _clocks(record)
    found: dict[str, list[MetricSeries]] = {}
    width = len(str(max(clocks, default=0)))
    for table, frame in record.tables.values():
        for rank, name, rows in _parts(table, frame):
            steps = rows["stage" if table is PROVING else "step"].to_numpy(np.int64)
            times = record.started + _seconds_of(table, rows, steps, clocks.get(rank))
            # Padded, so that names are listed in the order of the chain.
            series = found.setdefault(f"trainer-{rank:0{width}}" if rank else "owner", [])
            for column in table.columns:
                # A table of an older run may lack one.
                if column.name in _PLACES or column.name not in rows:
                    continue
                values = rows[column.name].to_numpy(np.float64)
                if not np.isnan(values).all():
                    series.append(MetricSeries(name, column.name, steps, values, times))
    return found


def _parts(table: Table, frame: pd.DataFrame) -> Iterator[tuple[int, str, pd.DataFrame]]:
    """Yield the rows of each rank, of releases also of each split, with a name for them."""
    if table is RELEASES:
        names = {code: name for name, code in SPLIT_CODES.items()}
        for split, part in frame.groupby("split"):
            code = int(str(split))
            for rank, rows in part.groupby("rank"):
                yield int(str(rank)), f"{table.name}/{names.get(code, code)}", rows
        return
    for rank, rows in frame.groupby("rank"):
        yield int(str(rank)), table.name, rows


def _clocks(record: RunRecord) -> dict[int, _Clock]:
    """Return by rank its steps and the seconds in steps up to the end of each."""
    if STEPS.name not in record.tables:
        return {}
    _, frame = record.tables[STEPS.name]
    return {
        int(str(rank)): (rows["step"].to_numpy(np.int64), _running_sum(rows["step_s"]))
        for rank, rows in frame.groupby("rank")
    }


def _seconds_of(
    table: Table, rows: pd.DataFrame, steps: NDArray[np.int64], clock: _Clock | None
) -> NDArray[np.float64]:
    """Return the seconds since the run began at which rows were recorded, as far as known."""
    if table is PROVING:
        return _running_sum(rows["stage_s"])
    if clock is None or not len(clock[0]):
        return np.zeros(len(steps))
    known, seconds = clock
    # What is recorded behind the last step, such as the evaluation, has the time of that.
    return seconds[np.clip(np.searchsorted(known, steps), 0, len(known) - 1)]


def _running_sum(values: pd.Series[float]) -> NDArray[np.float64]:
    return np.cumsum(np.nan_to_num(values.to_numpy(np.float64)))
