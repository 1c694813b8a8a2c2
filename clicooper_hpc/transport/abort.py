"""`abort_ranks`: end all ranks at once, with one exit status and one message."""

from __future__ import annotations

import contextlib
import os
import stat
import sys
import time
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from mpi4py import MPI

__all__ = ["abort_ranks"]

# A launcher that reads nothing any more must not keep a failed job alive.
_DELIVERY_LIMIT_S = 2.0
_POLL_S = 0.005
_GRACE_S = 0.1


def _unread_pipe_bytes(descriptor: int) -> int:
    """Return how many bytes in a pipe its reader has not taken yet; 0 for anything else."""
    if sys.platform != "linux":
        return 0
    import fcntl
    import termios

    try:
        # Only a pipe has a reader who may be behind; FIONREAD of a file or a terminal says
        # nothing.
        if not stat.S_ISFIFO(os.fstat(descriptor).st_mode):
            return 0
        return int.from_bytes(fcntl.ioctl(descriptor, termios.FIONREAD, bytes(4)), sys.byteorder)
    # A standard stream may be closed: then there is nothing to wait for.
    except OSError:
        return 0


def _deliver_output() -> None:
    """Wait until the launcher has taken what this rank wrote, for it drops the rest on an abort."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # closed, or its reader is gone
            stream.flush()
    end = time.monotonic() + _DELIVERY_LIMIT_S
    while (_unread_pipe_bytes(1) or _unread_pipe_bytes(2)) and time.monotonic() < end:
        time.sleep(_POLL_S)
    time.sleep(_GRACE_S)  # from the launcher's helper on this node to the user's terminal


def abort_ranks(comm: MPI.Intracomm, code: int) -> NoReturn:
    """End all ranks of ``comm`` with exit status ``code`` (1 to 255).

    What this rank wrote to its standard streams before is delivered; the notice of the MPI
    library, which would bury it, is not. Only Open MPI's `mpirun` then adds one of its own.
    """
    if not 0 < code < 256:
        raise ValueError(f"an exit status after a failure is 1 to 255, not {code}")
    _deliver_output()
    # From here on only the MPI library writes to stderr: its notice of the abort.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    comm.Abort(code)
    os._exit(code)  # the standard allows Abort to return; nothing may go on after it
