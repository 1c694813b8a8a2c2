"""Where the time of the steps went, rank by rank, and what crossed each edge of the pipeline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from clicooper_hpc.report.numbers import MOST, bytes_text
from clicooper_hpc.report.run_reading import RunReading

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "ACTIVITIES",
    "EdgeTraffic",
    "RankTimes",
    "kept_rows_words",
    "read_edge_traffic",
    "read_rank_times",
]

#: Column of the table ``steps``, by what it is the time of; the rest of a step is "other".
_COLUMNS: Final = {
    "forward": "forward_s",
    "backward": "backward_s",
    "optimizer": "optimizer_s",
    "waiting to receive": "wait_recv_s",
    "waiting to send": "wait_send_s",
}
ACTIVITIES: Final = (*_COLUMNS, "other")


@dataclass(frozen=True, slots=True)
class RankTimes:
    """Time of one rank in all its steps: seconds by activity, their sum, the number of steps."""

    rank: int
    seconds: Mapping[str, float]
    total: float
    steps: int

    @property
    def label(self) -> str:
        """Name of the rank on an axis."""
        return f"trainer {self.rank}" if self.rank else "owner"

    def share(self, activity: str) -> float:
        """Share of the time of all steps, in [0, 1]."""
        return self.seconds[activity] / self.total


@dataclass(frozen=True, slots=True)
class EdgeTraffic:
    """What crossed one edge in all steps, as text: both ends, bytes each way, bytes a step."""

    ends: str
    forward: str
    backward: str
    step: str


def read_rank_times(reading: RunReading) -> list[RankTimes]:
    """Return the times of all ranks whose steps can be read and took any time."""
    found = []
    for rank in reading.run.ranks:
        frame = reading.table("steps", rank)
        if frame is None or frame.empty:
            continue
        seconds = {name: _time(frame[column]) for name, column in _COLUMNS.items()}
        total = max(_time(frame["step_s"]), sum(seconds.values()))
        if total > 0:
            seconds["other"] = total - sum(seconds.values())
            found.append(RankTimes(rank, seconds, total, len(frame)))
    return found


def read_edge_traffic(reading: RunReading) -> Sequence[EdgeTraffic]:
    """Return the traffic of every edge of which one end at least can be read."""
    sent: dict[tuple[int, str], float] = {}
    steps = 1
    for rank in reading.run.ranks:
        frame = reading.table("steps", rank)
        if frame is not None and not frame.empty:
            steps = max(steps, len(frame))
            for way in ("forward", "backward"):
                sent[rank, way] = float(frame[f"bytes_sent_{way}"].clip(lower=0).sum())
    edges = []
    for rank in reading.run.ranks[1:]:
        forward, backward = sent.get((rank - 1, "forward")), sent.get((rank, "backward"))
        if forward is None and backward is None:
            continue
        before = f"trainer {rank - 1}" if rank > 1 else "owner"
        edges.append(
            EdgeTraffic(
                ends=f"{before} – trainer {rank}",  # noqa: RUF001
                forward=_known(forward),
                backward=_known(backward),
                # Half of it would pass for all.
                step=_known(
                    None if forward is None or backward is None else (forward + backward) / steps
                ),
            )
        )
    return edges


def kept_rows_words(reading: RunReading) -> str:
    """Return what the job says of rows that are needed again in a later epoch; maybe nothing."""
    cache = reading.job_value("release", "cache")
    if cache == "none":
        return "The owner sends every row again in each epoch, the very same bits."
    if cache in ("memory", "disk"):
        return (
            "Trainer 1 stores the rows of the first epoch, so in later epochs the owner does not "
            "send them again."
        )
    return ""


def _time(column: pd.Series[float]) -> float:
    """Return the sum of a column of seconds; what is no time, as a stranger may write, is none."""
    seconds = column.to_numpy(np.float64)
    return float(seconds[(seconds >= 0) & (seconds <= MOST)].sum())


def _known(count: float | None) -> str:
    return "not known" if count is None else bytes_text(count)
