"""The runs of a sweep: checked before the first starts, then made one after the other."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from clicooper_hpc.config.job import Job
from clicooper_hpc.errors import (
    ClicooperError,
    EnvironmentUnfitError,
    ExitCode,
    RunFolderError,
    RunStoppedError,
    UsageError,
)
from clicooper_hpc.launch.ranks_of_run import start_run
from clicooper_hpc.launch.run_start import RunStart
from clicooper_hpc.runstore.reader import Run, open_run
from clicooper_hpc.runstore.run_folder import RunFolder, remove_unstarted_folder
from clicooper_hpc.sweep.grid import Combination

__all__ = ["RunOutcome", "SweepRun", "make_runs", "plan_runs", "sweep_exit_code"]

RunState = Literal["complete", "stopped", "failed", "not started"]


@dataclass(frozen=True, slots=True)
class SweepRun:
    """One run of a sweep, before it is made."""

    combination: Combination
    start: RunStart
    job: Job

    @property
    def name(self) -> str:
        """Name of its folder."""
        return self.combination.name


@dataclass(frozen=True, slots=True)
class RunOutcome:
    """What became of a run.

    Attributes
    ----------
    run
        It.
    state
        ``"stopped"``: saved, and goes on when the sweep is started again.
    exit_code
        As that of `clicooper run`; None if it was not started.
    error
        The one line of a run that failed, else "".
    results
        Of a complete run, by name.
    """

    run: SweepRun
    state: RunState
    exit_code: int | None
    error: str
    results: Mapping[str, Any]


def plan_runs(shared: RunStart, combinations: Sequence[Combination]) -> list[SweepRun]:
    """Return the runs, each checked as far as that needs no ranks.

    Each is ``shared`` with what its combination overrides, in a folder of its own in that one.

    Raises
    ------
    UsageError
        A job has a mistake, two are the same, or a folder holds the run of another job.
    RunFolderError
        A folder holds what is no run.
    """
    runs: list[SweepRun] = []
    jobs: dict[str, str] = {}
    names: set[str] = set()
    for one in combinations:
        if one.name in names:
            raise UsageError(
                "two runs would have this name",
                where=str(shared.folder / one.name),
                remedy="Give values that differ in more than quotes.",
            )
        names.add(one.name)
        run = _plan_run(shared, one)
        same = jobs.setdefault(run.job.canonical(), one.name)
        if same != one.name:
            raise UsageError(
                f"{same} and {one.name} are the same job: the sample would be released twice for "
                "nothing",
                where="--set",
                remedy="Give values that differ.",
            )
        _check_folder(run)
        runs.append(run)
    return runs


def _plan_run(shared: RunStart, one: Combination) -> SweepRun:
    start = replace(shared, overrides=one.overrides, folder=shared.folder / one.name, resume=True)
    return SweepRun(one, start, start.load())


def _check_folder(run: SweepRun) -> None:
    """Raise if what lies in the place of ``run`` is another one; as `plan_runs`."""
    folder = RunFolder(run.start.folder)
    if not os.path.lexists(folder.index):
        return
    difference = run.job.first_difference(open_run(folder.path).job)
    if difference is not None:
        key, then, now = difference
        raise UsageError(
            f"holds the run of another job: {key} is {then!r} there and {now!r} here",
            where=str(folder.path),
            remedy="Give -o another folder, which releases every sample once more.",
        )


def make_runs(runs: Sequence[SweepRun], say: Callable[[str], None]) -> tuple[list[RunOutcome], str]:
    """Make the runs one after the other; a run that fails does not stop the others.

    Returns
    -------
    list[RunOutcome]
        One a run, in order.
    str
        What Ctrl-C ended, "" without it; the runs behind that were not started.
    """
    outcomes: list[RunOutcome] = []
    interrupted = ""
    for number, run in enumerate(runs, start=1):
        if interrupted:
            outcomes.append(RunOutcome(run, "not started", None, "", {}))
            continue
        title = f"run {number}/{len(runs)}: {run.name}"
        if _complete_run(run) is not None:
            say(f"{title}: complete already")
        else:
            say(title)
        try:
            made = start_run(run.start, say)
            outcomes.append(RunOutcome(run, "complete", ExitCode.DONE, "", made.results))
        except RunStoppedError as error:
            say(error.line())
            outcomes.append(RunOutcome(run, "stopped", int(error.exit_code), "", {}))
        except ClicooperError as error:
            say(f"run {number}/{len(runs)} failed: {error.line()}")
            _remove_unstarted(run)
            outcomes.append(RunOutcome(run, "failed", int(error.exit_code), error.line(), {}))
        except KeyboardInterrupt as end:
            interrupted = str(end) or "interrupted"
            outcomes.append(_outcome_of_interrupted(run))
    return outcomes, interrupted


def _remove_unstarted(run: SweepRun) -> None:
    """Remove what a start left that failed before anything left the owner.

    So that every folder in that of the sweep is a run, for whoever names them all.
    """
    # What cannot be removed is told by the next start.
    with contextlib.suppress(ClicooperError):
        remove_unstarted_folder(run.start.folder)


def _complete_run(run: SweepRun) -> Run | None:
    if not os.path.lexists(RunFolder(run.start.folder).index):
        return None
    try:
        found = open_run(run.start.folder)
    except (RunFolderError, EnvironmentUnfitError):
        # Told by the start that follows.
        return None
    return found if found.status == "complete" else None


def _outcome_of_interrupted(run: SweepRun) -> RunOutcome:
    complete = _complete_run(run)
    if complete is not None:
        return RunOutcome(run, "complete", ExitCode.DONE, "", complete.results)
    begun = os.path.lexists(RunFolder(run.start.folder).index)
    if begun:
        return RunOutcome(run, "stopped", ExitCode.REQUEUE, "", {})
    return RunOutcome(run, "not started", None, "", {})


def sweep_exit_code(outcomes: Sequence[RunOutcome]) -> int:
    """Return the code of the first run that failed, else 75 if one is not complete, else 0."""
    for outcome in outcomes:
        if outcome.state == "failed":
            return outcome.exit_code or ExitCode.INTERNAL
    whole = all(outcome.state == "complete" for outcome in outcomes)
    return ExitCode.DONE if whole else ExitCode.REQUEUE
