"""Signals that end a command, as an exception: what is half written is removed on the way out."""

from __future__ import annotations

import os
import signal
from types import FrameType
from typing import NoReturn

from clicooper_hpc.standard_streams import settle_standard_streams, write_error_line

__all__ = ["ENDING_SIGNALS", "EndedBySignal", "end_by_signal", "raise_ending_signals"]

#: Ctrl-C is Python's own KeyboardInterrupt.
ENDING_SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)


class EndedBySignal(BaseException):
    """The signal ``signum`` has come, which ends the process."""

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signum = signum


def raise_ending_signals() -> None:
    """Have every one of `ENDING_SIGNALS` that is not ignored raise `EndedBySignal`, once."""
    for one in ENDING_SIGNALS:
        # Started by nohup it goes on when its terminal is closed.
        if signal.getsignal(one) is not signal.SIG_IGN:
            signal.signal(one, _raise_signal)


def end_by_signal(end: EndedBySignal) -> NoReturn:
    """Say what has ended the process, and end it as the signal alone would have done.

    Callers look at how a process ended: a shell shows 143 for SIGTERM, 129 for SIGHUP.
    """
    write_error_line(f"clicooper: ended by {signal.Signals(end.signum).name}")
    settle_standard_streams()
    signal.signal(end.signum, signal.SIG_DFL)
    os.kill(os.getpid(), end.signum)
    # Never reached but where the signal is blocked.
    os._exit(128 + end.signum)


def _raise_signal(signum: int, frame: FrameType | None) -> NoReturn:
    # A second one must not interrupt the tidying up after the first.
    for one in ENDING_SIGNALS:
        signal.signal(one, signal.SIG_IGN)
    raise EndedBySignal(signum)
