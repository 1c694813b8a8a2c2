"""One start of a run on ranks of this machine: the command, its progress, its stop, its end."""

from __future__ import annotations

import contextlib
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

from clicooper_hpc.config.job import Job
from clicooper_hpc.errors import (
    BudgetExceededError,
    ClicooperError,
    EnvironmentUnfitError,
    EvidenceError,
    ExitCode,
    RunFolderError,
    RunStoppedError,
    UsageError,
)
from clicooper_hpc.launch.find_launcher import check_no_rank, environment_of_ranks
from clicooper_hpc.launch.rank_processes import RankProcesses
from clicooper_hpc.launch.run_start import RunStart
from clicooper_hpc.runstore.reader import Run, open_run
from clicooper_hpc.runstore.run_folder import STOP_FILE, RunFolder
from clicooper_hpc.runstore.saved_marker import read_saved_step

__all__ = ["start_run"]

#: Where a line of the command line's errors begins.
_ERROR: Final = "clicooper: "
#: Lines that are kept to look for the error: libraries may print after it.
_KEPT_LINES: Final = 400
_ERRORS: Final[dict[int, type[ClicooperError]]] = {
    ExitCode.USAGE: UsageError,
    ExitCode.BUDGET: BudgetExceededError,
    ExitCode.VERIFICATION: EvidenceError,
    ExitCode.ENVIRONMENT: EnvironmentUnfitError,
}


def start_run(start: RunStart, say: Callable[[str], None]) -> Run:
    """Run the job on ranks of this machine, or go on with it; return the finished run.

    Parameters
    ----------
    start
        What is started.
    say
        Is given every line the ranks print, and what becomes of Ctrl-C.

    Raises
    ------
    UsageError
        The job has a mistake, the folder holds a run of another job, or this process is a rank.
    RunFolderError
        A run has begun there, and is not to be gone on with.
    RunStoppedError
        The run has saved and stopped before its end.
    ClicooperError
        The ranks failed: of the class and exit code, and with the line, that they ended with.
    KeyboardInterrupt
        After Ctrl-C, when no rank is left. The text says what became of the run.
    """
    started = False
    try:
        check_no_rank(os.environ)
        job = start.load()
        found = _run_there(start, job)
        if found is not None and found.status == "complete":
            return found
        # Written as late as can be, and removed by what outlives this process.
        with start.job_file() as file:
            started = True
            return _run_on_ranks(start, start.command(job, file), file, say)
    except KeyboardInterrupt as end:
        if str(end):
            raise
        raise KeyboardInterrupt(
            _state_after_stop(start)
            if started
            else f"interrupted before any rank was started: {start.folder} is as it was"
        ) from None


def _run_on_ranks(
    start: RunStart, command: Sequence[str], file: Path, say: Callable[[str], None]
) -> Run:
    """Start ``command`` and return the run it makes; ``file`` is its job; errors as `start_run`."""
    last: deque[str] = deque(maxlen=_KEPT_LINES)

    def relay(ranks: RankProcesses) -> None:
        for line in ranks.lines():
            last.append(line)
            say(line)

    remove = None if file == start.job else file
    with RankProcesses(command, environment_of_ranks(os.environ), remove=remove) as ranks:
        try:
            relay(ranks)
        except KeyboardInterrupt:
            # A second one: whatever was asked for, the end of this block ends them.
            with contextlib.suppress(KeyboardInterrupt), _asked_to_stop(start.folder) as asked:
                if asked:
                    say("interrupted: the ranks finish their step and save (again: ends them now)")
                    relay(ranks)
        else:
            return _finished_run(start, ranks.exit_code(), [*last])
    raise KeyboardInterrupt(_state_after_stop(start))


def _run_there(start: RunStart, job: Job) -> Run | None:
    """Return the run that has begun in the folder; raises as `start_run`."""
    if not os.path.lexists(RunFolder(start.folder).index):
        return None
    if not start.resume:
        raise RunFolderError(
            "a run has begun here already, and a run is never overwritten",
            where=str(start.folder),
            remedy="Choose another folder, or go on with this one: resume=True.",
        )
    run = open_run(start.folder)
    # The ranks compare too, but take a complete run for done whatever the job.
    difference = job.first_difference(run.job)
    if difference is not None:
        key, then, now = difference
        raise UsageError(
            f"holds the run of another job: {key} is {then!r} there and {now!r} here",
            where=str(start.folder),
            remedy="Choose another folder, which releases every sample once more.",
        )
    return run


@contextlib.contextmanager
def _asked_to_stop(folder: Path) -> Iterator[bool]:
    """Ask the ranks to save and end; False if nothing has left the owner that could be saved.

    At the end the request is taken back, unless somebody else had made it.
    """
    stop = folder / STOP_FILE
    made = asked = False
    # Where it cannot be asked for there is nothing to wait for.
    with contextlib.suppress(OSError):
        if RunFolder(folder).index.exists():
            asked = stop.exists()
            # Not a signal: launchers differ in what they do with one.
            stop.touch()
            made, asked = not asked, True
    try:
        yield asked
    finally:
        if made:
            with contextlib.suppress(OSError):
                stop.unlink()


def _state_after_stop(start: RunStart) -> str:
    if not RunFolder(start.folder).index.exists():
        return f"stopped before anything left the owner: {start.folder} can be begun anew"
    try:
        run = open_run(start.folder)
        if run.status == "complete":
            return f"the run had come to its end: {start.folder}"
        step = read_saved_step(run.folder, str(run.attrs["run_id"]))
    except ClicooperError as error:
        return f"ended, and cannot be read: {error.line()}"
    how = "ended without saving" if step is None else f"saved after {step} steps"
    return f"{how}: start it again to go on ({start.folder})"


def _finished_run(start: RunStart, code: int, lines: list[str]) -> Run:
    """Return the run if it is whole; else raise what it ended with, as `start_run`."""
    error = next((line for line in reversed(lines) if line.startswith(_ERROR)), None)
    begun = RunFolder(start.folder).index.exists()
    run = open_run(start.folder) if begun else None
    # The folder is asked first: a launcher's code mixes those of its ranks, and may be 0 for ranks
    # that were killed. With an error line, what lies there may be somebody else's run.
    if run is not None and error is None:
        if run.status == "complete":
            return run
        step = read_saved_step(run.folder, str(run.attrs["run_id"]))
        if step is not None:
            raise RunStoppedError(
                f"the run has saved after {step} steps and stopped",
                where=str(start.folder),
                remedy="Start it again to go on.",
            )
    if error is None:
        raise ClicooperError(
            f"the ranks ended with exit code {code} and without a word",
            where=str(start.folder),
            remedy="Start it again to go on."
            if begun
            else "Nothing has left the owner. Try it at a shell: "
            f"{start.mpiexec} -n {start.ranks or 2} clicooper doctor",
        )
    raise _ERRORS.get(code, ClicooperError)(error.removeprefix(_ERROR))
