"""A run as a store of MLflow: an SQLite database and artifacts, written by MLflow's own package."""

from __future__ import annotations

import itertools
import logging
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from clicooper_hpc.report.trackers.metric_series import metric_series
from clicooper_hpc.report.trackers.optional_package import import_package
from clicooper_hpc.report.trackers.record_tables import value_text, write_csv_tables
from clicooper_hpc.report.trackers.run_record import RunRecord

__all__ = ["write_mlflow_store"]

#: Names that `mlflow server` looks for in the folder where it is started.
_DATABASE: Final = "mlflow.db"
_ARTIFACTS: Final = "mlartifacts"
#: Resolved by the server against its folder of artifacts: no path of this machine.
_SCHEME: Final = "mlflow-artifacts:/"
_EXPERIMENT: Final = "clicooper"
#: Most that one call takes.
_METRICS, _OTHERS = 1000, 100
#: Keys that MLflow takes, and the longest values of both kinds.
_KEY: Final = re.compile(r"[\w.\- :/]{1,250}", re.ASCII)
_MOST: Final = 5000


def write_mlflow_store(record: RunRecord, folder: Path) -> None:
    """Write ``record`` as the one run of a new store in ``folder``; tables are its artifacts.

    What MLflow takes no name or no such length of is left to the tables, and a gap says so.

    Raises
    ------
    EnvironmentUnfitError
        mlflow is not installed.
    """
    stores = _part("mlflow.store.tracking.sqlalchemy_store")
    entities = _part("mlflow.entities")
    # It tells of every step in making a database.
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    with _plain_path(folder) as plain:
        store = stores.SqlAlchemyStore(f"sqlite:///{plain / _DATABASE}", _SCHEME)
        try:
            identity = _fill_store(record, store, entities)
        finally:
            store.engine.dispose()
    tables = folder / _ARTIFACTS / identity / "artifacts" / "tables"
    tables.mkdir(parents=True)
    write_csv_tables(record, tables)


def _fill_store(record: RunRecord, store: Any, entities: Any) -> str:
    """Write everything but the artifacts; return the run's place among these."""
    experiment = store.create_experiment(_EXPERIMENT)
    made = store.create_run(experiment, "", _ms(record.started), [], record.name)
    identity = made.info.run_id
    for metrics in _batches(_metrics(record, entities.Metric), _METRICS):
        store.log_batch(identity, metrics, [], [])
    params = [entities.Param(*one) for one in _fitting(record, "params", record.params)]
    for some in _batches(iter(params), _OTHERS):
        store.log_batch(identity, [], some, [])
    tags = [entities.RunTag(*one) for one in _fitting(record, "tags", _tags(record))]
    for some in _batches(iter(tags), _OTHERS):
        store.log_batch(identity, [], [], some)
    # MLflow has no word for a run of which nobody knows whether it goes on.
    ended = "FINISHED" if record.about.get("status") == "complete" else "KILLED"
    status = entities.RunStatus.from_string(ended)
    store.update_run_info(identity, status, _ms(record.ended), record.name)
    return f"{experiment}/{identity}"


def _metrics(record: RunRecord, metric: Any) -> Iterator[Any]:
    for result in record.results:
        if isinstance(result.value, (bool, str)):
            continue
        if _KEY.fullmatch(result.name):
            yield metric(result.name, float(result.value), _ms(record.ended), record.steps)
        else:
            _leave_out(record, "results", result.name)
    for rank_name, series in metric_series(record).items():
        for one in series:
            for step, value, time in zip(one.steps, one.values, one.times, strict=True):
                yield metric(f"{rank_name}/{one.name}", float(value), _ms(time), int(step))


def _tags(record: RunRecord) -> dict[str, Any]:
    tags: dict[str, Any] = {f"clicooper.{name}": value for name, value in record.about.items()}
    tags |= {f"privacy.{name}": value for name, value in record.privacy.items()}
    tags |= {f"results.{one.name}": one.value for one in record.results if type(one.value) is str}
    if record.card:
        # Shown as the description of the run: indented, so that nothing in it is markup.
        tags["mlflow.note.content"] = "".join(f"    {one}\n" for one in record.card.splitlines())
    return tags


def _fitting(record: RunRecord, what: str, values: Any) -> Iterator[tuple[str, str]]:
    for name, value in values.items():
        text = value_text(value)
        if _KEY.fullmatch(name) and len(text) <= _MOST:
            yield name, text
        else:
            _leave_out(record, what, name)


def _leave_out(record: RunRecord, what: str, name: str) -> None:
    record.gaps.append(f"{what} of MLflow: {name[:80]} stands in the tables alone")


@contextmanager
def _plain_path(folder: Path) -> Iterator[Path]:
    """Give another path to ``folder``, with no character that means something in a URL."""
    with tempfile.TemporaryDirectory(prefix="clicooper-") as place:
        link = Path(place) / "store"
        link.symlink_to(folder.absolute(), target_is_directory=True)
        yield link


def _batches(items: Iterator[Any], size: int) -> Iterator[list[Any]]:
    while batch := list(itertools.islice(items, size)):
        yield batch


def _ms(seconds: float) -> int:
    return int(1000 * seconds)


def _part(name: str) -> Any:
    return import_package(name, "mlflow", extra="mlflow")
