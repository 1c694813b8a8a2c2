"""`train`: run a job on ranks of this machine, without MPI and torch in this process."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from clicooper_hpc.errors import ClicooperError, UsageError
from clicooper_hpc.launch.find_launcher import find_mpiexec
from clicooper_hpc.launch.ranks_of_run import start_run
from clicooper_hpc.launch.run_start import RunStart
from clicooper_hpc.launch.train_arguments import (
    check_flag,
    check_path,
    check_ranks_argument,
    in_python,
    override_texts,
)
from clicooper_hpc.runstore.reader import Run
from clicooper_hpc.standard_streams import write_error_line

__all__ = ["train"]


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
    try:
        return start_run(
            _run_start(job, ranks, output, overrides, resume, quiet, mpiexec), write_error_line
        )
    except ClicooperError as error:
        raise in_python(error) from error
    except KeyboardInterrupt as end:
        raise KeyboardInterrupt(str(end) or "interrupted before any rank was started") from None


def _run_start(
    job: object,
    ranks: object,
    output: object,
    overrides: object,
    resume: object,
    quiet: object,
    mpiexec: object,
) -> RunStart:
    """Return what is to be started; `UsageError` names an argument of another kind."""
    if not isinstance(job, Mapping):
        job = Path(os.path.abspath(check_path("job", job)))
    if output is None:
        if isinstance(job, Mapping):
            raise UsageError(
                "a job that is no file has no name to call the run by",
                where="train, output",
                remedy='Give output, such as "runs/first".',
            )
        output = Path("runs") / job.stem
    return RunStart(
        job=job,
        overrides=override_texts(overrides),
        folder=Path(os.path.realpath(check_path("output", output))),
        ranks=check_ranks_argument(ranks),
        mpiexec=find_mpiexec(None if mpiexec is None else check_path("mpiexec", mpiexec)),
        resume=check_flag("resume", resume),
        quiet=check_flag("quiet", quiet),
    )
