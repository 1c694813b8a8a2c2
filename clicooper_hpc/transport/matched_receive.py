"""`MatchedReceive`: a receive that probes the length of a message before MPI gets a buffer.

MPI must report a message longer than the posted buffer as MPI_ERR_TRUNCATE. MPICH does; Open MPI
(4.1.4 and 5.0.11 tried, over shared memory and over TCP) does too, but has by then written the
whole message, over whatever lies behind the buffer. There a receive is matched with
``MPI_Improbe`` first, which costs the head start of a posted buffer and nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from mpi4py import MPI

__all__ = ["MatchedReceive", "TooLongError", "overruns_receive_buffers"]

# A longer message is left with MPI: how much memory is taken is not for a peer to say.
_THROW_AWAY_LIMIT_BYTES = 16 * 2**20


def overruns_receive_buffers(library: str) -> bool:
    """Return whether the MPI library of this name writes too long messages beyond the buffer."""
    return library.startswith("Open MPI")


class TooLongError(RuntimeError):
    """A message is longer than its buffer; has the shape of mpi4py's own exception."""

    def Get_error_class(self) -> int:  # noqa: N802  (mpi4py's name)
        """Return MPI_ERR_TRUNCATE."""
        from mpi4py import MPI

        return int(MPI.ERR_TRUNCATE)


class MatchedReceive:
    """Stands for the request of a receive into ``raw`` and is used like one.

    Unlike posted receives, several of these on one communicator, peer and tag must be tested in
    the order they were made.
    """

    def __init__(self, comm: MPI.Intracomm, raw: NDArray[np.uint8], peer: int, tag: int) -> None:
        self._comm: MPI.Intracomm | None = comm
        self._raw = raw
        self._peer = peer
        self._tag = tag
        self._request: MPI.Request | None = None
        self._too_long = False

    def __bool__(self) -> bool:
        """Return whether the receive is still under way."""
        return self._comm is not None

    def Test(self, status: MPI.Status | None = None) -> bool:  # noqa: N802  (MPI's name)
        """Make progress; return whether the message is here.

        Raises
        ------
        TooLongError
            If the message is longer than the buffer. It is taken from the peer and thrown away if
            it is not of unreasonable length.
        """
        from mpi4py import MPI

        if self._comm is None:
            return True
        if self._request is None:
            probed = MPI.Status()
            # A matched probe takes the message out of the queue: what is measured is received.
            message = self._comm.Improbe(self._peer, self._tag, probed)
            if message is None:
                return False
            size = probed.Get_count()
            target = self._raw
            if size > target.nbytes:
                self._too_long = True
                if size > _THROW_AWAY_LIMIT_BYTES:
                    self._comm = None
                    raise TooLongError(f"a message of {size} bytes")
                # Taken all the same, so that its sender is not left waiting for a receive.
                target = np.empty(size, dtype=np.uint8)
            self._request = message.Irecv(target)
        done = self._request.Test(status)
        if done:
            self._comm = None
            if self._too_long:
                raise TooLongError("message thrown away")
        return done

    def Cancel(self) -> None:  # noqa: N802  (MPI's name)
        """Withdraw the receive unless its message is already on its way."""
        # Once matched it can no longer be withdrawn, only be waited for.
        if self._request is None:
            self._comm = None
