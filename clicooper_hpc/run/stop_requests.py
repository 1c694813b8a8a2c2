"""Requests to stop: signals, the file STOP in the run folder, the job's own time limit.

All do the same: the run finishes its step, saves, and exits with 75.
"""

from __future__ import annotations

import logging
import signal
import time
from pathlib import Path
from types import FrameType

from clicooper_hpc.errors import EnvironmentUnfitError
from clicooper_hpc.runstore.run_folder import STOP_FILE, RunFolder
from clicooper_hpc.runstore.saved_marker import mark_saved, unmark_saved

__all__ = ["StopRequests"]

_log = logging.getLogger(__name__)

_SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
#: The file is looked for at most so often: a look may ask a busy file server.
_LOOK_S = 1.0


class StopRequests:
    """Whether this rank has been asked to stop, and by what (``reason``); listens from now on."""

    def __init__(self) -> None:
        self.reason: str | None = None
        self._folder: Path | None = None
        self._ends: float | None = None
        self._has_looked = False
        self._begun = self._looked = time.monotonic()
        self._started = time.time()
        for number in _SIGNALS:
            # Only noted, never raised: a step that is under way is finished and saved.
            signal.signal(number, self._note_stop_signal)

    def watch_stop_file(self, folder: Path, limit_s: float | None) -> None:
        """Also look for the file in the run ``folder``, and at the clock.

        ``limit_s``: seconds from the start after which the run stops by itself; None: never. A
        start that takes longer still leaves one step, or the run would be started for ever.
        """
        self._folder = folder
        if limit_s is None:
            return
        self._ends = self._begun + limit_s
        took = time.monotonic() - self._begun
        if took >= limit_s:
            _log.warning(
                "checkpoint.stop_after_min is %.3g min, and the start alone took %.3g min: the run "
                "does one step, then it stops",
                limit_s / 60,
                took / 60,
            )

    def forget_last_stop(self, folder: RunFolder) -> None:
        """Remove the request that stopped the run before, and the answer that all had saved.

        A request made since this start began stays.

        Raises
        ------
        EnvironmentUnfitError
            A file cannot be removed.
        """
        unmark_saved(folder)
        path = folder.path / STOP_FILE
        try:
            # One made since then is meant for this start, even if it came while libraries were
            # loading.
            if path.stat().st_mtime < self._started:
                path.unlink()
        except FileNotFoundError:
            return
        except OSError as error:
            raise EnvironmentUnfitError(
                f"cannot be removed ({error.strerror}), and would stop the run at once",
                where=str(path),
                remedy="Remove it yourself.",
            ) from error

    def is_stop_requested(self) -> bool:
        """Whether to stop; asked once before each step."""
        now = time.monotonic()
        # The first answer is always no: each start has to come one step further, or one that is
        # asked while it starts, again and again, would be started again for ever.
        if not self._has_looked:
            self._has_looked = True
            return False
        if self.reason is None and self._ends is not None and now >= self._ends:
            self.reason = "checkpoint.stop_after_min"
        if self.reason is None and self._folder is not None and now - self._looked >= _LOOK_S:
            self._looked = now
            if (self._folder / STOP_FILE).exists():
                self.reason = f"the file {STOP_FILE}"
        return self.reason is not None

    def tell_saved(self, folder: RunFolder, run_id: str, step: int) -> None:
        """Say in the run folder that every rank has saved after ``step`` steps; see `mark_saved`.

        Raises
        ------
        EnvironmentUnfitError
            The file cannot be written.
        """
        mark_saved(folder, run_id, step)

    def ignore_signals(self) -> None:
        """Let a signal end this rank no more: what it asks for has come to its end.

        Python gives up its handlers before MPI finalises: a signal then would kill the rank, and a
        run that is whole would look as if it had failed. Launchers send such signals themselves
        when the first rank ends with a code that is not 0.
        """
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_IGN)

    def _note_stop_signal(self, number: int, frame: FrameType | None) -> None:
        self.reason = self.reason or signal.Signals(number).name
