"""Guard of commands that read files of others: whatever HDF5 does with them, the user gets a line.

The command runs in a child process; this one waits. If the child is ended by a fault of C code, or
does not come back from a file for far longer than its size explains, the file is named.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import time
import traceback
from collections.abc import Callable
from types import FrameType
from typing import NoReturn

from clicooper_hpc.commands.ending_signals import (
    EndedBySignal,
    end_by_signal,
    raise_ending_signals,
)
from clicooper_hpc.errors import ExitCode, RunFolderError
from clicooper_hpc.runstore.hdf5.reading_note import ReadingNote, share_reading_note
from clicooper_hpc.standard_streams import settle_standard_streams, write_error_line

__all__ = ["run_guarded"]

#: Seconds that reading any file may take, and bytes a second beyond that: below a slow disk's.
PATIENCE_S = 120.0
_BYTES_PER_S = 1 << 20
_PAUSE_S = 0.02
# Of linux/prctl.h.
_PR_SET_PDEATHSIG = 1
#: What a fault of C code ends a process with.
_FAULTS = frozenset({signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGFPE, signal.SIGILL})
#: What is meant for the child, whoever it was sent to.
_PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)


def run_guarded(call: Callable[[], int], *, patience_s: float = PATIENCE_S) -> int:
    """Run ``call`` in a child and return its exit code.

    Raises
    ------
    RunFolderError
        A file broke HDF5.
    """
    note = share_reading_note()
    # Nothing may be in a buffer that both processes would write.
    settle_standard_streams()
    # Until both know what to do with a signal, none is delivered: it would end this process alone,
    # and with it, at once, the child that has something to tidy up.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _PASSED_ON)
    child = os.fork()
    if child == 0:
        _run_child(call, before)

    def pass_on(signum: int, frame: FrameType | None) -> None:
        # What was typed at a terminal has reached the child already.
        if signum != signal.SIGINT or not _is_foreground():
            os.kill(child, signum)

    for one in _PASSED_ON:
        signal.signal(one, pass_on)
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return _await_child(child, note, patience_s)


def _run_child(call: Callable[[], int], mask: set[signal.Signals | int]) -> NoReturn:
    """Run ``call`` and end this process with its code, whatever happens.

    ``mask``: the signals that are to be blocked in it.
    """
    code = int(ExitCode.INTERNAL)
    _end_with_parent()
    raise_ending_signals()
    try:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        code = call()
    except EndedBySignal as end:
        end_by_signal(end)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else code
    except BaseException:  # noqa: BLE001
        # A bug: told as Python tells it, but the frames below are the parent's.
        write_error_line(traceback.format_exc())
    finally:
        settle_standard_streams()
        # Not sys.exit: what the parent cleans up at its end is not the child's.
        os._exit(code)


def _end_with_parent() -> None:
    """Have the system kill this process when the waiting one is killed; Linux alone can do that.

    One that HDF5 keeps busy would else be left behind.
    """
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is not None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _is_foreground() -> bool:
    for descriptor in range(3):
        # A standard stream that is no terminal, or closed, says nothing.
        with contextlib.suppress(OSError):
            return os.tcgetpgrp(descriptor) == os.getpgrp()
    return False


def _await_child(child: int, note: ReadingNote, patience_s: float) -> int:
    """Return the exit code of ``child``; raises as `run_guarded`."""
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            break
        reading = note.read_note()
        if reading is not None:
            path, seconds, size = reading
            if seconds > patience_s + size / _BYTES_PER_S:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
                raise _broken(f"HDF5 did not come back within {seconds:.0f} s", path)
        time.sleep(_PAUSE_S)
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        return code
    reading = note.read_note()
    if reading is not None and -code in _FAULTS:
        raise _broken(f"HDF5 ended the process ({signal.Signals(-code).name})", reading[0])
    # As if this process had been ended so: callers look at how, not only that.
    signal.signal(-code, signal.SIG_DFL)
    os.kill(os.getpid(), -code)
    return 128 - code


def _broken(what: str, path: str) -> RunFolderError:
    return RunFolderError(
        f"{what} while reading it: it is damaged, or made to do that",
        where=path,
        remedy="Restore it from a copy.",
    )
