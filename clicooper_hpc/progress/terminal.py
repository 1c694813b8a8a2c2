"""`LiveTerminal`: where a line that is drawn anew can be shown, also from a rank of an MPI job.

A rank's standard error is a pipe to its launcher. Hydra and the launchers of Open MPI start the
ranks of their own host as their descendants, so the launcher's standard error can be looked up in
``/proc``; if that is a terminal, the line is drawn there. Through the pipe it would not do: those
of Open MPI, and srun, pass on whole lines only, and this one has no end. Slurm's ranks descend from
its daemon: there a user says so (`CLICOOPER_PROGRESS`).
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from clicooper_hpc.errors import UsageError

__all__ = ["LiveTerminal", "find_live_terminal"]

_VARIABLE = "CLICOOPER_PROGRESS"
_CHOICES = ("auto", "bar", "lines")
#: Names under which launchers run: of MPICH, Open MPI 4, PRRTE (Open MPI 5), Intel MPI.
_LAUNCHERS = frozenset({"mpiexec", "mpiexec.hydra", "mpirun", "orterun", "prterun", "prte"})
_STDERR = 2
_USUAL_COLUMNS = 80
#: Ancestors that are asked: launcher, its proxy and some shells are fewer.
_MOST_ANCESTORS = 16


@dataclass(frozen=True, slots=True)
class LiveTerminal:
    """An open terminal; ``columns`` is its width if it cannot be asked for it."""

    descriptor: int
    columns: int | None = None

    def width(self) -> int:
        """Return how many columns it has now: windows are resized."""
        if self.columns is not None:
            return self.columns
        # The window may be closed, or say that it has no columns.
        with contextlib.suppress(OSError):
            return os.get_terminal_size(self.descriptor).columns or _USUAL_COLUMNS
        return _USUAL_COLUMNS

    def write(self, text: str) -> bool:
        """Write ``text``; return whether the terminal still takes any."""
        try:
            os.write(self.descriptor, text.encode("utf-8", "replace"))
        except OSError:
            return False
        return True


def find_live_terminal(
    env: Mapping[str, str] | None = None, stderr: int = _STDERR
) -> LiveTerminal | None:
    """Return where a live line can be drawn, None if it would end in a log file.

    Raises
    ------
    UsageError
        ``CLICOOPER_PROGRESS`` is none of ``auto``, ``bar`` and ``lines``.
    """
    env = os.environ if env is None else env
    choice = env.get(_VARIABLE) or "auto"
    if choice not in _CHOICES:
        raise UsageError(
            f"{choice!r} is none of {', '.join(_CHOICES)}",
            where=f"{_VARIABLE} (environment variable)",
        )
    if choice == "lines":
        return None
    if os.isatty(stderr):
        return None if env.get("TERM") == "dumb" and choice == "auto" else LiveTerminal(stderr)
    if choice == "bar":
        columns = env.get("COLUMNS", "")
        known = columns.isascii() and columns.isdecimal() and len(columns) < 5
        return LiveTerminal(stderr, int(columns) if known else _USUAL_COLUMNS)
    # Sent to a file on purpose (2>log), even by a script that a launcher started.
    if not stat.S_ISFIFO(os.fstat(stderr).st_mode) and not stat.S_ISSOCK(os.fstat(stderr).st_mode):
        return None
    return _launcher_terminal()


def _launcher_terminal() -> LiveTerminal | None:
    """Open the terminal that is standard error of the launcher above this process, if it is one."""
    for process in _ancestors():
        try:
            name = (process / "comm").read_text().strip()
        except OSError:
            return None
        if name not in _LAUNCHERS:
            continue
        try:
            # Not to become this process's controlling terminal: Ctrl-C would go astray.
            opened = os.open(process / "fd" / str(_STDERR), os.O_WRONLY | os.O_NOCTTY)
        except OSError:  # of another user, or a pipe whose reader is gone
            return None
        if os.isatty(opened):
            return LiveTerminal(opened)
        os.close(opened)
        return None
    return None


def _ancestors() -> Iterator[Path]:
    parent = os.getppid()
    for _ in range(_MOST_ANCESTORS):
        # 0: the parent is outside this PID namespace, as in containers.
        if parent <= 1:
            return
        yield Path(f"/proc/{parent}")
        try:
            # The name, in brackets, may hold blanks and brackets; behind it state and parent.
            parent = int(Path(f"/proc/{parent}/stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError, IndexError):
            return
