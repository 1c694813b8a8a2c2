"""A run as event files of TensorBoard, by TensorBoard's own package; TensorFlow is not needed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from clicooper_hpc.report.trackers.metric_series import MetricSeries, metric_series
from clicooper_hpc.report.trackers.optional_package import import_package
from clicooper_hpc.report.trackers.run_record import RunRecord

__all__ = ["write_tensorboard_events"]

#: TensorBoard reads every file with "tfevents" in its name; its own names hold host and process.
_FILE: Final = "events.out.tfevents.clicooper"
#: What every event file begins with: steps of other tags need not come in order.
_VERSION: Final = "brain.Event:2"


def write_tensorboard_events(record: RunRecord, folder: Path) -> None:
    """Write params, results and texts of ``record`` into ``folder``, metrics of each rank below it.

    Numbers become float32: TensorBoard's scalars know no others.

    Raises
    ------
    EnvironmentUnfitError
        tensorboard is not installed.
    """
    tensorboard = _TensorBoard()
    results = {
        f"results/{one.name}": float(one.value)
        for one in record.results
        if not isinstance(one.value, (str, bool))
    }
    tensorboard.write_events(
        folder,
        [
            *((record.started, 0, part) for part in tensorboard.hparams(record.params, results)),
            *((record.started, 0, tensorboard.text(*one)) for one in _texts(record).items()),
            (record.ended, record.steps, tensorboard.scalars(results)),
        ],
    )
    for rank_name, series in metric_series(record).items():
        below = folder / rank_name
        below.mkdir()
        tensorboard.write_events(below, tensorboard.rows(series))


class _TensorBoard:
    """What is used of the package; an event is a triple of wall time, step and summary."""

    def __init__(self) -> None:
        parts = ("compat.proto.event_pb2", "compat.proto.summary_pb2")
        self._event, self._summary = (self._part(f"tensorboard.{name}") for name in parts)
        self._records = self._part("tensorboard.summary.writer.record_writer")
        # Summaries of parameters and texts, as torch makes them of TensorBoard's messages.
        self._torch = self._part("torch.utils.tensorboard.summary")

    def write_events(self, folder: Path, events: Iterable[tuple[float, int, Any]]) -> None:
        """Write a file of ``events`` into ``folder``."""
        with (folder / _FILE).open("xb") as file:
            writer = self._records.RecordWriter(file)
            start = self._event.Event(wall_time=0.0, file_version=_VERSION)
            writer.write(start.SerializeToString())
            for time, step, summary in events:
                event = self._event.Event(wall_time=time, step=step, summary=summary)
                writer.write(event.SerializeToString())

    def rows(self, series: Iterable[MetricSeries]) -> Iterator[tuple[float, int, Any]]:
        """Yield an event for each row of each table: its columns share steps and times."""
        by_table: dict[str, list[MetricSeries]] = {}
        for one in series:
            by_table.setdefault(one.table, []).append(one)
        for columns in by_table.values():
            first = columns[0]
            for row, (time, step) in enumerate(zip(first.times, first.steps, strict=True)):
                values = {one.name: float(one.values[row]) for one in columns}
                yield float(time), int(step), self.scalars(values)

    def scalars(self, values: Mapping[str, float]) -> Any:
        """Return a summary of numbers by tag."""
        value = self._summary.Summary.Value
        return self._summary.Summary(
            value=[value(tag=tag, simple_value=number) for tag, number in values.items()]
        )

    def text(self, tag: str, text: str) -> Any:
        """Return a summary of a text, which TensorBoard shows as it is."""
        # Indented: nothing in it is markup of Markdown.
        return self._torch.text(tag, "".join(f"    {line}\n" for line in text.splitlines()))

    def hparams(self, params: Mapping[str, Any], metrics: Mapping[str, float]) -> tuple[Any, ...]:
        """Return the summaries that list ``params`` beside ``metrics``."""
        summaries: tuple[Any, ...] = self._torch.hparams(dict(params), dict(metrics))
        return summaries

    @staticmethod
    def _part(name: str) -> Any:
        return import_package(name, "tensorboard", extra="tensorboard")


def _texts(record: RunRecord) -> dict[str, str]:
    """Return by tag what TensorBoard shows as text."""
    texts = {
        "run": _lines({"name": record.name, **record.about}),
        "privacy/card": record.card,
        "privacy/entries": _lines(record.privacy),
        "job": json.dumps(dict(record.params), indent=2),
        "proofs": record.proofs.to_string(index=False) if len(record.proofs) else "",
        "gaps": "\n".join(record.gaps),
    }
    return {tag: text for tag, text in texts.items() if text}


def _lines(values: Mapping[str, object]) -> str:
    return "\n".join(f"{name}: {value}" for name, value in values.items())
