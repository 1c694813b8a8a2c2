"""Requests to stop: signals, the file STOP in the run folder, the job's own time limit.

All do the same: the run finishes its step, saves, and exits with 75.
"""

from __future__ import annotations

import signal
import time
from pathlib import Path
from types import FrameType

from clicooper_hpc.errors import EnvironmentUnfitError

__all__ = ["STOP_FILE", "StopRequests"]

STOP_FILE = "STOP"
_SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
#: The file is looked for at most so often: a look may ask a busy file server.
_LOOK_S = 1.0


class StopRequests:
    """Whether this rank has been asked to stop, and by what (``reason``); listens from now on."""

    def __init__(self) -> None:
        self.reason: str | None = None
        self._folder: Path | None = None
        self._ends: float | None = None
        self._begun = self._looked = time.monotonic()
        for number in _SIGNALS:
            signal.signal(number, self._take)

    def watch(self, folder: Path, limit_s: float | None) -> None:
        """Also look for the file in the run ``folder``, and at the clock.

        ``limit_s``: seconds from the start after which the run stops by itself; None: never.
        """
        self._folder = folder
        self._ends = None if limit_s is None else self._begun + limit_s

    @staticmethod
    def forget(folder: Path) -> None:
        """Take a file away that stopped an earlier life; call at the start of one.

        Raises
        ------
        EnvironmentUnfitError
            It cannot be removed.
        """
        try:
            (folder / STOP_FILE).unlink(missing_ok=True)
        except OSError as error:
            raise EnvironmentUnfitError(
                f"cannot be removed ({error.strerror}), and would stop the run at once",
                where=str(folder / STOP_FILE),
                remedy="Remove it yourself.",
            ) from error

    def asked(self) -> bool:
        """Whether to stop."""
        now = time.monotonic()
        if self.reason is None and self._ends is not None and now >= self._ends:
            self.reason = "checkpoint.stop_after_min"
        if self.reason is None and self._folder is not None and now - self._looked >= _LOOK_S:
            self._looked = now
            if (self._folder / STOP_FILE).exists():
                self.reason = f"the file {STOP_FILE}"
        return self.reason is not None

    def _take(self, number: int, frame: FrameType | None) -> None:
        self.reason = self.reason or signal.Signals(number).name
