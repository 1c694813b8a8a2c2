"""`train`: run a job on ranks of this machine, without MPI and torch in this process."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from clicooper_hpc.config.load_job import load_job
from clicooper_hpc.config.toml_text import format_toml_table, format_toml_value
from clicooper_hpc.errors import EnvironmentUnfitError, UsageError
from clicooper_hpc.launch.find_launcher import find_mpiexec
from clicooper_hpc.launch.ranks_of_run import RunStart, ranks_of_job, start_run
from clicooper_hpc.runstore.reader import Run
from clicooper_hpc.standard_streams import write_error_line

__all__ = ["train"]

_JOB = "job"


def train(
    job: str | os.PathLike[str] | Mapping[str, Any],
    *,
    ranks: int | None = None,
    output: str | os.PathLike[str] | None = None,
    overrides: Mapping[str, Any] | Sequence[str] = (),
    resume: bool = False,
    quiet: bool = False,
    mpiexec: str | os.PathLike[str] | None = None,
) -> Run:
    """Train on ranks of this machine, and return the finished run.

    The launcher and its ranks are child processes: neither MPI nor torch is loaded here. What they
    print appears on `sys.stderr`. Ctrl-C (in a notebook: interrupt) lets them finish their step and
    save; a second one ends them at once. No rank outlives the call, nor this process. In a Slurm
    allocation all ranks run on this node; for several nodes there is `clicooper submit`.

    Parameters
    ----------
    job
        Job file, or its sections as a mapping of mappings. Of a mapping, relative paths and an
        ``"extends"`` are relative to the current folder.
    ranks
        Owner and trainers. Default: one more than the segments the job asks for.
    output
        Run folder to make. Default for a file: ``runs/`` and its name, as in `clicooper run`.
    overrides
        Keys to set, as ``{"training.epochs": 3}`` or ``["training.epochs=3"]``.
    resume
        Go on with the run if it has begun; return it if it is complete.
    quiet
        Show warnings and errors alone.
    mpiexec
        Program that starts the ranks. Default: that beside Python, else that of the ``PATH``.

    Raises
    ------
    UsageError
        The job or an argument is wrong, or this process is itself one of several ranks.
    RunFolderError
        A run has begun in ``output``, and ``resume`` is false.
    BudgetExceededError, EnvironmentUnfitError, EvidenceError, ClicooperError
        The ranks failed; the text is their line, ``exit_code`` that of `clicooper run`.
    RunStoppedError
        The run has saved and stopped, for it was asked to; ``resume=True`` goes on.
    KeyboardInterrupt
        After Ctrl-C, when no rank is left; the text says what became of the run.
    """
    if output is None and isinstance(job, Mapping):
        raise UsageError(
            "a job that is no file has no name to call the run by",
            where="train, output",
            remedy='Give output, such as "runs/first".',
        )
    if output is not None and not os.fspath(output):
        raise UsageError("names no folder", where="train, output", remedy="Give a name.")
    texts = _override_texts(overrides)
    program = find_mpiexec(None if mpiexec is None else os.fspath(mpiexec))
    with _job_file(job) as path:
        folder = Path(os.path.realpath(output or Path("runs") / path.stem))
        count = _number_of_ranks(path, texts, ranks, given=not isinstance(job, Mapping))
        return start_run(
            RunStart(path, texts, folder, count, program, resume, quiet), write_error_line
        )


def _override_texts(overrides: Mapping[str, Any] | Sequence[str]) -> tuple[str, ...]:
    if isinstance(overrides, str):
        raise UsageError(
            "is one text, not a list of them", where="train, overrides", remedy="Put it in [ ]."
        )
    if not isinstance(overrides, Mapping):
        return tuple(overrides)
    return tuple(
        f"{key}={format_toml_value(value, where=f'train, overrides, {key}')}"
        for key, value in overrides.items()
    )


@contextlib.contextmanager
def _job_file(job: str | os.PathLike[str] | Mapping[str, Any]) -> Iterator[Path]:
    """Yield the absolute path of the job file; for a mapping, one that is there for as long."""
    if not isinstance(job, Mapping):
        yield Path(os.path.abspath(job))
        return
    text = format_toml_table(job, where=_JOB)
    # In the current folder, for paths in it and modules of the user's are looked for beside it.
    try:
        handle, name = tempfile.mkstemp(".toml", ".clicooper-job-", os.getcwd())
    except OSError as error:
        raise EnvironmentUnfitError(
            f"the job cannot be written into the current folder ({error.strerror})",
            where=os.getcwd(),
            remedy="Change to a folder you may write to, or give a job file.",
        ) from error
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        yield Path(name)
    finally:
        with contextlib.suppress(OSError):
            os.unlink(name)


def _number_of_ranks(
    path: Path, overrides: Sequence[str], ranks: int | None, *, given: bool
) -> int:
    """Return the number of ranks; loads the job, so that its mistakes are told by their place."""
    try:
        job = load_job(path, overrides)
    except UsageError as error:
        if given:
            raise
        # Not the name of a file that nobody has written.
        where = None if error.where is None else error.where.replace(str(path), _JOB)
        raise UsageError(error.what, where=where, remedy=error.remedy) from None
    return ranks_of_job(job, ranks, where="train, ranks")
