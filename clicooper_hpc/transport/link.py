"""`Link`: a communicator, a peer and a tag; every message of a run is handed to MPI here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from clicooper_hpc.errors import PeerError
from clicooper_hpc.transport.matched_receive import MatchedReceive
from clicooper_hpc.transport.message_kind import Direction
from clicooper_hpc.transport.tap import Tap

if TYPE_CHECKING:
    from mpi4py import MPI
    from numpy import uint8
    from numpy.typing import NDArray

__all__ = ["Link"]


@dataclass(frozen=True, slots=True)
class Link:
    """A communicator, a peer on it and an MPI tag, seen from rank ``me``.

    Messages of one link arrive in the order they were sent. Two channels must never share a link:
    the pre-posted receives of one would take the messages of the other. With ``match_first``, MPI
    gets a buffer only once a message is known to fit; see `MatchedReceive`.
    """

    comm: MPI.Intracomm
    me: int
    peer: int
    direction: Direction
    tag: int
    tap: Tap | None = None
    match_first: bool = False

    def isend(self, raw: NDArray[uint8]) -> MPI.Request:
        """Start to send ``raw``, which must stay as it is until the request is complete."""
        # Here and nowhere else, so that a tap has seen every byte that left the rank.
        if self.tap is not None:
            self.tap.record_message(
                raw.data, peer=self.peer, direction=self.direction, tag=self.tag
            )
        try:
            return self.comm.Isend(raw, self.peer, self.tag)
        except RuntimeError as error:  # mpi4py's exceptions derive from it
            raise self._lost_peer_error(error, "send to") from error

    def irecv(self, raw: NDArray[uint8]) -> MPI.Request | MatchedReceive:
        """Post a receive into ``raw`` for the next message of this link."""
        if self.match_first:
            return MatchedReceive(self.comm, raw, self.peer, self.tag)
        try:
            return self.comm.Irecv(raw, self.peer, self.tag)
        except RuntimeError as error:
            raise self._lost_peer_error(error, "receive from") from error

    def _lost_peer_error(self, error: RuntimeError, verb: str) -> PeerError:
        return PeerError(
            f"rank {self.me} cannot {verb} rank {self.peer} ({self.direction}): "
            f"MPI says {str(error).splitlines()[0]}",
            remedy=f"Rank {self.peer} or its node is probably gone: look at its last output",
        )

    def new_status(self) -> MPI.Status:
        """Return an object for MPI to report the length of a message in."""
        from mpi4py import MPI  # late: importing transport must not load an MPI library

        return MPI.Status()
