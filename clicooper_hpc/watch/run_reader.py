"""`WatchedRun`: reads the folder of a run again and again; opens for reading only, takes no lock.

What has not changed since the last look is not read again.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from clicooper_hpc.errors import ClicooperError, RunFolderError
from clicooper_hpc.runstore.reader import Run, open_run
from clicooper_hpc.runstore.run_folder import RunFolder
from clicooper_hpc.runstore.saved_marker import read_saved_step
from clicooper_hpc.runstore.whole_run import open_whole_run
from clicooper_hpc.watch.snapshot import (
    RankActivity,
    RunSnapshot,
    ledger_events,
    privacy_spent,
    rank_activity,
    stated_total_steps,
)

__all__ = ["WatchedRun"]

_TRAINER_TABLES = ("steps", "training")
_OWNER_TABLES = ("steps", "evaluation", "releases", "ledger")


@dataclass(frozen=True, slots=True)
class _Look:
    """What was read of a rank's file while it was in ``state``."""

    state: tuple[int, ...] | None
    activity: RankActivity
    owner: dict[str, Any]


class WatchedRun:
    """The run in ``path``, or in a file of it, as `open_run` takes them.

    Raises
    ------
    RunFolderError
        There is no folder, or something else in it; a run that is starting is one.
    """

    def __init__(self, path: Path) -> None:
        self.folder = _folder_of(path) if path.is_file() else RunFolder(path)
        self._looks: dict[int, _Look] = {}
        self._run: Run | None = None
        self._index: tuple[int, ...] | None = None
        #: Said by the run itself or found out; not asked for again.
        self._total: int | None = None
        if not self._is_starting():
            self._open()

    def read_snapshot(self) -> RunSnapshot:
        """Return what the files say now.

        Raises
        ------
        RunFolderError
            There is nothing to be read any more, or the index is damaged.
        """
        if self._is_starting():
            return RunSnapshot("starting", self._changed(()))
        run = self._open()
        looks = [self._look(run, rank) for rank in run.ranks]
        owner = looks[0].owner
        trained = next((one.activity for one in reversed(looks) if one.activity.steps), None)
        epochs = _job_number(run, "training", "epochs")
        total = self._total = self._total or owner.get("total")
        if total is None and trained is not None and trained.epoch_steps and epochs:
            total = trained.epoch_steps * epochs
        snapshot = RunSnapshot(
            run.status,
            self._changed(run.ranks),
            saved_step=read_saved_step(run.folder, str(run.attrs["run_id"])),
            created=str(run.attrs["created"]),
            restarts=int(run.attrs["restarts"]),
            total_steps=total,
            epochs=epochs,
            ranks=tuple(look.activity for look in looks),
            promised=_number(run.privacy.get("spec.sample_epsilon")),
            private=_truth(run.privacy.get("private")),
        )
        owner = {name: value for name, value in owner.items() if name != "total"}
        return replace(snapshot, **owner)

    def _is_starting(self) -> bool:
        """Tell whether the folder is that of a run that has no index yet."""
        if os.path.lexists(self.folder.index):
            return False
        try:
            names = set(os.listdir(self.folder.path))
        except OSError:
            return False
        # As `create_run_folder` makes it; everything else is for `open_run` to refuse.
        # Ranks that have files have sent something: then the index is missing.
        begun = any(name.startswith("rank-") for name in names)
        return {"delivery", ".lock"} <= names and not begun

    def _open(self) -> Run:
        """Return the run, opened again if its index is another one by now."""
        state = _file_state(self.folder.index)
        if self._run is None or state != self._index:
            self._run = open_run(self.folder.index)
            self._index = state
        return self._run

    def _look(self, run: Run, rank: int) -> _Look:
        single = run.attrs["layout"] == "single"
        state = None if single else _file_state(run.folder.shard(rank))
        if state is None:
            # One file has all ranks; or it was handed on without the others.
            state = _file_state(run.folder.index)
        last = self._looks.get(rank)
        if last is None or last.state != state or state is None:
            last = self._looks[rank] = _read_rank(run, rank, state)
        return last

    def _changed(self, ranks: tuple[int, ...]) -> float:
        """Return when the newest file of the run was written; seconds of the system's clock."""
        folder = self.folder
        places = [
            folder.path,
            folder.index,
            folder.delivery,
            folder.path / "checkpoints",
            *map(folder.shard, ranks),
        ]
        times = [state[1] / 1e9 for place in places if (state := _file_state(place)) is not None]
        return max(times, default=0.0)


def _folder_of(file: Path) -> RunFolder:
    return open_whole_run(file).folder


def _read_rank(run: Run, rank: int, state: tuple[int, ...] | None) -> _Look:
    host = run.hosts[rank]
    try:
        stored = run.stored_rows(rank, _TRAINER_TABLES if rank else _OWNER_TABLES)
        rows = {table.name: columns for table, columns in stored.items()}
        if "steps" not in rows:
            raise RunFolderError("has no table of steps")
        activity = rank_activity(rank, host, rows["steps"], rows.get("training"))
        # A row of a trainer may be the mean of so many samples.
        averaged = _job_number(run, "training", "average_rows") or 1
        if activity.samples is not None:
            activity = replace(activity, samples=activity.samples * averaged)
    except ClicooperError as error:
        # One file that is damaged or gone: the others are shown all the same.
        return _Look(state, RankActivity(rank, host, fault=error.what), {})
    return _Look(state, activity, {} if rank else _owner_facts(rows))


def _owner_facts(rows: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    evaluation = rows.get("evaluation")
    if evaluation is not None and len(evaluation["epoch"]):
        found["clean_accuracy"] = _number(evaluation["clean_accuracy"][-1])
        found["evaluated_epoch"] = int(evaluation["epoch"][-1])
    if "releases" in rows:
        found["spent"] = privacy_spent(rows["releases"])
    if "ledger" in rows:
        ledger = rows["ledger"]
        found["entries"] = len(ledger["entry"])
        found["events"] = ledger_events(ledger)
        found["total"] = stated_total_steps(ledger)
    return found


def _file_state(path: Path) -> tuple[int, ...] | None:
    """Return what shows that a file was written to or replaced; None if it is not there."""
    try:
        facts = os.lstat(path)
    except OSError:
        return None
    return facts.st_ino, facts.st_mtime_ns, facts.st_size


def _job_number(run: Run, section: str, key: str) -> int | None:
    try:
        value = run.job_section(section).get(key)
    except RunFolderError:
        return None
    return value if type(value) is int and 0 < value < 10**9 else None


def _number(value: object) -> float | None:
    try:
        number = float(str(value))
    except ValueError:
        return None
    return number if 0 <= number < 1e15 else None


def _truth(value: object) -> bool | None:
    return value if isinstance(value, bool) else None
