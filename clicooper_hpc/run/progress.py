"""Progress of a run on rank 0, as a live line or as lines of the log."""

from __future__ import annotations

import logging
import time

from clicooper_hpc.closing import Closing
from clicooper_hpc.owner.loop import ReportedStep
from clicooper_hpc.progress.progress_line import ProgressLine

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
        self._rows = 0
        #: Mean of the epoch so far.
        self._epoch, self._losses, self._steps = -1, 0.0, 0
        self._begun = time.monotonic()
        self._line = ProgressLine(
            "step", total_steps, done=done, quiet=quiet, say=lambda line: _log.info("%s", line),
            last=True,
        )  # fmt: skip

    def close_on_exit(self, error: BaseException | None) -> None:
        """End the live line, also after an error."""
        self._line.close_on_exit(error)

    def __call__(self, step: ReportedStep) -> None:
        """Note one finished step."""
        if step.epoch != self._epoch:
            self._epoch, self._losses, self._steps = step.epoch, 0.0, 0
        self._losses += step.loss
        self._steps += 1
        self._rows += step.rows
        rate = self._rows / max(time.monotonic() - self._begun, 1e-9)
        self._line.note = (
            f"loss {self._losses / self._steps:.4f}",
            f"{rate:.0f} samples/s",
            f"epoch {step.epoch + 1}/{self._epochs}",
            self._note,
        )
        self._line.advance()
