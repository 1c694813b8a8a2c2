"""`RunStart`: what is started on ranks of this machine, and the command that does it."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from clicooper_hpc.config.job import Job
from clicooper_hpc.config.load_job import load_job, load_job_text
from clicooper_hpc.config.toml_text import format_toml_table
from clicooper_hpc.errors import EnvironmentUnfitError, UsageError

__all__ = ["RunStart"]

#: Of a job that is no file, in errors.
_JOB: Final = "job"


@dataclass(frozen=True, slots=True)
class RunStart:
    """What is started; of a sweep what its runs share, with the folder they lie in.

    Attributes
    ----------
    job
        Job file, or the sections of a job as a mapping of mappings.
    overrides
        ``section.key=value`` each, as behind ``--set``.
    folder
        Run folder.
    ranks
        Their number, owner and trainers; None: one more than the segments of the job.
    mpiexec
        Program that starts them.
    resume
        Go on if the run has begun.
    quiet
        Only warnings and errors of the ranks.
    """

    job: Path | Mapping[str, Any]
    overrides: tuple[str, ...]
    folder: Path
    ranks: int | None
    mpiexec: str
    resume: bool = False
    quiet: bool = False

    def load(self) -> Job:
        """Return the resolved job.

        Raises
        ------
        UsageError
            There is a mistake in it, it needs another number of ranks, or nothing says how many.
        """
        if isinstance(self.job, Mapping):
            text = format_toml_table(self.job, where=_JOB)
            job = load_job_text(text, self.overrides, where=_JOB)
        else:
            job = load_job(self.job, self.overrides)
        job.check_ranks(self.ranks_of(job), option="--ranks")
        return job

    def ranks_of(self, job: Job) -> int:
        """Return the number of ranks, of this start with its resolved job; errors as `load`."""
        if self.ranks is not None:
            return self.ranks
        segments = job.wanted_segments()
        if segments is None:
            raise UsageError(
                "the job leaves the number of segments to the ranks, and their number is not given",
                where="--ranks",
                remedy="Give it (owner and trainers), or set pipeline.segments.",
            )
        return segments + 1

    @contextlib.contextmanager
    def job_file(self) -> Iterator[Path]:
        """Yield the job file; of a mapping one that is there for as long.

        Raises
        ------
        EnvironmentUnfitError
            It cannot be written.
        """
        if not isinstance(self.job, Mapping):
            yield self.job
            return
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
                file.write(format_toml_table(self.job, where=_JOB))
            yield Path(name)
        finally:
            with contextlib.suppress(OSError):
                os.unlink(name)

    def command(self, job: Job, file: Path) -> list[str]:
        """Return the launcher and what it starts; ``job`` is the resolved job in ``file``."""
        # Of this Python and not found by name; -P: modules of the current folder are no part of it.
        program = [sys.executable, "-P", "-m", "clicooper_hpc", "run", str(file)]
        options = ["-o", str(self.folder)]
        options += ["--resume"] * self.resume + ["--quiet"] * self.quiet
        for one in self.overrides:
            options += ["--set", one]
        return [self.mpiexec, "-n", str(self.ranks_of(job)), *program, *options]
