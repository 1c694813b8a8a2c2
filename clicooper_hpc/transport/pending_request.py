"""Wait for an MPI request, within a deadline and without burning a core.

Ranks often share cores (the owner beside a trainer, tests on a laptop). MPI's own wait spins, and
no setting of the libraries helps; polling with a growing pause does: spin 20 us, then give up the
time slice until 100 us, then sleep 20 us, growing by half to 200 us.
"""

from __future__ import annotations

import ctypes
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol

from clicooper_hpc.errors import PeerError
from clicooper_hpc.transport.message_kind import Direction, Kind

__all__ = ["PendingMessage", "TestableRequest", "request_error", "wait_for_request"]

_SPIN_S = 20e-6
_YIELD_UNTIL_S = 100e-6
_FIRST_SLEEP_S = 20e-6
_SLEEP_GROWTH = 1.5
_LONGEST_SLEEP_S = 200e-6

_PR_SET_TIMERSLACK = 29
_TIMERSLACK_NS = 1000


class TestableRequest(Protocol):
    """The part of an MPI request that `wait_for_request` uses."""

    def Test(self, status: Any = None) -> bool:  # noqa: N802  (MPI's name)
        """Make progress; return whether the request is complete."""
        ...


@dataclass(frozen=True, slots=True)
class PendingMessage:
    """Who waits for what: the words of the error if it never comes.

    ``micro_batch`` is ``None`` where the message belongs to a whole step, and the number of the
    chunk in a blob; ``sending`` tells a wait for the peer to take a message from a wait for the
    peer's message.
    """

    me: int
    peer: int
    direction: Direction
    kind: Kind
    step: int
    micro_batch: int | None = None
    sending: bool = False
    chunk: bool = False

    @property
    def message(self) -> str:
        """The awaited message in words, as in ``activation of step 3, micro-batch 1``."""
        place = f"{self.kind.words} of step {self.step}"
        if self.micro_batch is None:
            return place
        return f"{place}, {'chunk' if self.chunk else 'micro-batch'} {self.micro_batch}"

    def timeout_error(self, deadline_s: float) -> PeerError:
        """Return the error for a wait of ``deadline_s`` seconds that ended without the message."""
        if self.sending:
            wish = f"for rank {self.peer} to take the {self.message} ({self.direction})"
        else:
            wish = f"for the {self.message} from rank {self.peer} ({self.direction})"
        return PeerError(
            f"rank {self.me} waited {deadline_s:g} s {wish}",
            remedy=f"Look at the last output of rank {self.peer}; raise the job's timeout if its "
            "steps can take that long",
        )


def request_error(error: RuntimeError, what: PendingMessage) -> PeerError:
    """Translate an exception of mpi4py met while waiting; anything else is raised again.

    A message longer than the buffer (MPI_ERR_TRUNCATE) is told apart from a peer that is gone.
    """
    error_class: Callable[[], int] | None = getattr(error, "Get_error_class", None)
    # Not MPI's: a signal handler's or a bug's, which must not be blamed on the peer.
    if error_class is None:
        raise error
    # Already loaded, as the error is its own; importing it here would load MPI for tests.
    if error_class() == sys.modules["mpi4py.MPI"].ERR_TRUNCATE:
        return PeerError(
            f"a longer message than agreed came in place of the {what.message}",
            where=f"message from rank {what.peer} ({what.direction})",
            remedy=f"Give all ranks the same job; else rank {what.peer} is at fault",
        )
    return PeerError(
        f"rank {what.me} cannot {'send' if what.sending else 'receive'} the {what.message} "
        f"{'to' if what.sending else 'from'} rank {what.peer} ({what.direction}): "
        f"MPI says {str(error).splitlines()[0]}",
        remedy=f"Rank {what.peer} or its node is probably gone: look at its last output",
    )


@cache
def _sharpen_sleep() -> None:
    """Let this thread sleep for microseconds: Linux rounds sleeps up by 50 us by default."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, _TIMERSLACK_NS, 0, 0, 0)


def _yield_core() -> None:
    if hasattr(os, "sched_yield"):
        os.sched_yield()
    else:  # pragma: no cover - not on Linux
        time.sleep(0)


def wait_for_request(
    request: TestableRequest, *, deadline_s: float, what: PendingMessage, status: Any = None
) -> float:
    """Poll ``request`` until it is complete; every poll moves all other messages on too.

    Parameters
    ----------
    request
        An MPI request.
    deadline_s
        Longest wait in seconds.
    what
        Who waits for what, for the error.
    status
        MPI status to fill in.

    Returns
    -------
    float
        Seconds waited, 0 if the request was already complete.

    Raises
    ------
    PeerError
        After ``deadline_s``, or if MPI reports a fault. After a deadline the request is still
        active and may be waited for again.
    """
    try:
        # Mostly the message is here: then no clock is read.
        if request.Test(status):
            return 0.0
        start = time.perf_counter()
        pause = _FIRST_SLEEP_S
        while True:
            # Measured before the last test: a message that came during a long sleep still counts.
            waited = time.perf_counter() - start
            if request.Test(status):
                return waited
            if waited >= deadline_s:
                raise what.timeout_error(deadline_s)
            if waited < _SPIN_S:
                continue
            if waited < _YIELD_UNTIL_S:
                _yield_core()
                continue
            # Late, so that ranks that never sleep keep the system's timers as they are.
            _sharpen_sleep()
            time.sleep(pause)
            pause = min(pause * _SLEEP_GROWTH, _LONGEST_SLEEP_S)
    except RuntimeError as error:  # mpi4py's exceptions derive from it
        raise request_error(error, what) from error
