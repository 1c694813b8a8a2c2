"""Progress of a run on rank 0: a bar on a terminal, else a line per epoch."""

from __future__ import annotations

import logging
import sys
import time

from tqdm import tqdm

from clicooper_hpc.closing import Closing
from clicooper_hpc.owner.loop import ReportedStep

__all__ = ["Progress"]

_log = logging.getLogger("clicooper_hpc.run.progress")


class Progress(Closing):
    """Shows each finished step.

    Parameters
    ----------
    total_steps, epochs
        Length of the run.
    note
        What is shown beside the loss, such as the run's epsilon.
    quiet
        Say nothing.
    done
        Steps done before a restart.
    """

    def __init__(
        self, total_steps: int, epochs: int, note: str, *, quiet: bool, done: int = 0
    ) -> None:
        self._epochs = epochs
        self._note = note
        self._quiet = quiet
        self._rows = 0
        self._losses: list[float] = []
        self._epoch = 0
        self._start = self._logged = time.monotonic()
        terminal = sys.stderr.isatty() and not quiet
        self._bar = tqdm(
            total=total_steps, initial=done, unit="step", disable=not terminal, file=sys.stderr
        )

    def close_on_exit(self, error: BaseException | None) -> None:
        """End the bar's line, also after an error."""
        self._log_epoch_progress()
        self._bar.close()

    def __call__(self, step: ReportedStep) -> None:
        """Note one finished step."""
        if step.epoch != self._epoch:
            self._log_epoch_progress()
            self._epoch = step.epoch
        self._losses.append(step.loss)
        self._rows += step.rows
        if not self._bar.disable:
            rate = self._rows / max(time.monotonic() - self._start, 1e-9)
            self._bar.set_postfix_str(f"loss {step.loss:.3f}, {rate:.0f} samples/s, {self._note}")
            self._bar.update()

    def _log_epoch_progress(self) -> None:
        """Say how an epoch went; with many short ones, not more than one line in two seconds."""
        if not self._losses:
            return
        mean = sum(self._losses) / len(self._losses)
        self._losses.clear()
        now = time.monotonic()
        last = self._epoch == self._epochs - 1
        if not self._bar.disable or (now - self._logged < 2.0 and not last):
            return
        self._logged = now
        rate = self._rows / max(now - self._start, 1e-9)
        _log.info(
            "epoch %d/%d, loss %.4f, %.0f samples/s, %s",
            self._epoch + 1,
            self._epochs,
            mean,
            rate,
            self._note,
        )
