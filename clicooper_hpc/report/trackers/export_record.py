"""Writing a run for trackers: `clicooper export --to tensorboard, mlflow, csv or parquet`."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from clicooper_hpc.report.trackers.mlflow_store import write_mlflow_store
from clicooper_hpc.report.trackers.record_tables import write_csv_tables, write_parquet_tables
from clicooper_hpc.report.trackers.run_record import RunRecord, read_run_record
from clicooper_hpc.report.trackers.tensorboard_events import write_tensorboard_events
from clicooper_hpc.runstore.new_output import new_output

__all__ = ["TRACKER_FORMATS", "export_record"]


@dataclass(frozen=True, slots=True)
class _Tracker:
    """Writes a record into a folder; ``opened`` is how a user looks at it, with FOLDER in it."""

    write: Callable[[RunRecord, Path], None]
    opened: str


#: By name on the command line.
TRACKER_FORMATS = {
    "tensorboard": _Tracker(write_tensorboard_events, "tensorboard --logdir FOLDER"),
    "mlflow": _Tracker(write_mlflow_store, "cd FOLDER && mlflow server"),
    "csv": _Tracker(write_csv_tables, ""),
    "parquet": _Tracker(write_parquet_tables, ""),
}


def export_record(run: Path, form: str, target: Path) -> str:
    """Write the run in ``run``, finished or not, into a new folder ``target``; return what to say.

    Nothing of its private folder is read.

    Parameters
    ----------
    form
        One of `TRACKER_FORMATS`.

    Raises
    ------
    RunFolderError
        There is no run.
    UsageError, EnvironmentUnfitError
        As `new_output`; a package that ``form`` needs is not installed.
    """
    tracker = TRACKER_FORMATS[form]
    with new_output(target, "the record", folder=True) as folder:
        record = read_run_record(run)
        tracker.write(record, folder)
    steps, results = record.steps, len(record.results)
    lines = [
        f"wrote {target}: {record.about.get('status')} run of {record.about.get('num_ranks')} "
        f"ranks, {steps} step{'s' * (steps != 1)}, {results} result{'s' * (results != 1)}"
    ]
    lines += [f"not in it: {gap}" for gap in record.gaps]
    if tracker.opened:
        lines.append(f"open it: {tracker.opened.replace('FOLDER', shlex.quote(str(target)))}")
    return "\n".join(lines)
