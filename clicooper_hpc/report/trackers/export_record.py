"""Writing a run for trackers: `clicooper export --to tensorboard, mlflow, csv or parquet`."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from clicooper_hpc.printable import printable_text
from clicooper_hpc.report.trackers.mlflow_store import write_mlflow_store
from clicooper_hpc.report.trackers.optional_package import check_package
from clicooper_hpc.report.trackers.record_tables import write_csv_tables, write_parquet_tables
from clicooper_hpc.report.trackers.run_record import RunRecord, read_run_record
from clicooper_hpc.report.trackers.tensorboard_events import write_tensorboard_events
from clicooper_hpc.runstore.new_output import new_output

__all__ = ["TRACKER_FORMATS", "ExportedRecord", "export_record"]


@dataclass(frozen=True, slots=True)
class _Tracker:
    """Writes a record into a folder.

    ``opened`` is how a user looks at it, with FOLDER in it; ``package`` what it needs, if anything.
    """

    write: Callable[[RunRecord, Path], None]
    opened: str
    package: str = ""


#: By name on the command line.
TRACKER_FORMATS = {
    "tensorboard": _Tracker(write_tensorboard_events, "tensorboard --logdir FOLDER", "tensorboard"),
    "mlflow": _Tracker(write_mlflow_store, "cd FOLDER && mlflow server", "mlflow"),
    "csv": _Tracker(write_csv_tables, ""),
    "parquet": _Tracker(write_parquet_tables, "", "pyarrow"),
}


@dataclass(frozen=True, slots=True)
class ExportedRecord:
    """What was written where; ``opened`` is a command of the shell that shows it, or empty."""

    target: Path
    form: str
    record: RunRecord
    opened: str

    def facts(self) -> dict[str, object]:
        """Return what was written as JSON values."""
        about = self.record.about
        return {
            "output": str(self.target),
            "format": self.form,
            "run_id": about.get("run_id"),
            "status": about.get("status"),
            "ranks": about.get("num_ranks"),
            "steps": self.record.steps,
            "results": len(self.record.results),
            "gaps": list(self.record.gaps),
            "open": self.opened,
        }

    def text(self) -> str:
        """Return the same as lines of text."""
        steps, results = self.record.steps, len(self.record.results)
        lines = [
            f"wrote {printable_text(str(self.target))}: {self.record.about.get('status')} run of "
            f"{self.record.about.get('num_ranks')} ranks, {steps} step{'s' * (steps != 1)}, "
            f"{results} result{'s' * (results != 1)}"
        ]
        lines += [f"not in it: {gap}" for gap in self.record.gaps]
        if self.opened:
            lines.append(f"open it: {printable_text(self.opened)}")
        return "\n".join(lines)


def export_record(run: Path, form: str, target: Path) -> ExportedRecord:
    """Write the run in ``run``, finished or not, into a new folder ``target``.

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
    if tracker.package:
        # Before the run is read, which may take a while.
        check_package(tracker.package, form, extra=form)
    with new_output(target, "the record", folder=True) as folder:
        record = read_run_record(run)
        tracker.write(record, folder)
    opened = tracker.opened.replace("FOLDER", shlex.quote(str(target)))
    return ExportedRecord(target, form, record, opened)
