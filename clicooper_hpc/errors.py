"""Errors a user can meet, each with the exit code of the process that met it.

An error names the thing that is wrong, the place where it is, and what to do about it. The
command line prints exactly that, without a traceback; anything that is not a `ClicooperError` is
a bug and exits with `ExitCode.INTERNAL`.
"""

from __future__ import annotations

import errno
from enum import IntEnum

from clicooper_hpc.printable import printable_text

__all__ = [
    "FAILURE_CODES",
    "BudgetExceededError",
    "ClicooperError",
    "DataError",
    "DivergedError",
    "EnvironmentUnfitError",
    "EvidenceError",
    "ExitCode",
    "PeerError",
    "RunFolderError",
    "RunStoppedError",
    "UsageError",
]


class ExitCode(IntEnum):
    """Exit status of every command."""

    # 1 is also what Python exits with after an exception: a bug, not a finding.
    DONE = 0
    INTERNAL = 1
    USAGE = 2
    BUDGET = 3
    VERIFICATION = 4
    ENVIRONMENT = 5
    # EX_TEMPFAIL of sysexits.h: a Slurm script then starts the run again.
    REQUEUE = 75


#: Codes a rank that fails may report to the others. That a run is done, or saved and to be started
#: again, is no failure: each rank says that of itself alone.
FAILURE_CODES = frozenset(ExitCode) - {ExitCode.DONE, ExitCode.REQUEUE}

#: Most characters of each of the three parts of the line of an error.
MOST_CHARACTERS = 1000


class ClicooperError(Exception):
    """Base of all errors a user can meet.

    Parameters
    ----------
    what
        What is wrong, in one clause.
    where
        File, key, dataset, rank or step it was found at.
    remedy
        What the user can do.
    """

    exit_code: ExitCode = ExitCode.INTERNAL

    def __init__(self, what: str, *, where: str | None = None, remedy: str | None = None) -> None:
        self.what = what
        self.where = where
        self.remedy = remedy
        super().__init__(self.line())

    def line(self) -> str:
        """Return the error as the single line the user sees."""
        # One line whatever came in: several ranks print to one terminal. And texts of others stand
        # in it: names, paths, what a library says of a foreign file.
        what, where, remedy = (
            _line_part(text or "") for text in (self.what, self.where, self.remedy)
        )
        text = f"{where}: {what}" if where else what
        return f"{text.rstrip('.')}. {remedy}" if remedy else text


class UsageError(ClicooperError):
    """A job file, an option or a combination of options is wrong."""

    exit_code = ExitCode.USAGE


class DataError(ClicooperError):
    """A data set or a weights file is missing, damaged or not what the job says it is."""

    exit_code = ExitCode.USAGE


class RunFolderError(ClicooperError):
    """A run folder is missing, damaged, incomplete or already there."""

    exit_code = ExitCode.USAGE


class BudgetExceededError(ClicooperError):
    """The next send would spend more privacy than the job allows. Nothing of it was sent."""

    exit_code = ExitCode.BUDGET


class EvidenceError(ClicooperError):
    """A proof, signature, ledger or tensor file is damaged, forged or does not fit the rest."""

    exit_code = ExitCode.VERIFICATION


class EnvironmentUnfitError(ClicooperError):
    """MPI, HDF5, a device or the file system cannot do what the job needs."""

    exit_code = ExitCode.ENVIRONMENT


class DivergedError(ClicooperError):
    """A rank computed NaN or infinity from finite numbers; it has sent and stored none."""


class RunStoppedError(ClicooperError):
    """A run has saved on all ranks and stopped before its end: it goes on when started again."""

    exit_code = ExitCode.REQUEUE


class PeerError(ClicooperError):
    """Another rank is silent, gone, or sent something this rank refuses."""


def _line_part(text: str) -> str:
    # Values and names of others are quoted, and may be as long as a file. Cut twice: an escaped
    # character is longer than it was.
    shown = printable_text(" ".join(text[: MOST_CHARACTERS + 1].split()))
    return shown if len(shown) <= MOST_CHARACTERS else f"{shown[:MOST_CHARACTERS]}..."


def error_of_path(error: BaseException) -> ClicooperError | None:
    """Return what to say of a path that cannot be reached; None if ``error`` is another.

    The one place for what any file operation can meet on the way to a path that a user has named.
    """
    if not isinstance(error, OSError):
        return None
    where = None if error.filename is None else str(error.filename)
    if isinstance(error, PermissionError):
        return EnvironmentUnfitError(
            "permission denied",
            where=where,
            remedy="Run as the user it belongs to, or ask that user for access.",
        )
    if where is not None and error.errno in (errno.ELOOP, errno.ENAMETOOLONG):
        return UsageError(
            f"no file can be there ({error.strerror})",
            where=where,
            remedy="Give another path.",
        )
    return None
