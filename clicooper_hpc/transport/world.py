"""`World`: the ranks of a job, the communicators between them, the channels of this rank."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NoReturn

from clicooper_hpc.closing import Closing
from clicooper_hpc.transport.abort import abort_ranks
from clicooper_hpc.transport.blob import Blob, receive_blob, send_blob
from clicooper_hpc.transport.channel import Counters
from clicooper_hpc.transport.collectives import (
    Agreement,
    Star,
    allreduce_failure,
    broadcast,
    gather,
)
from clicooper_hpc.transport.link import Link
from clicooper_hpc.transport.matched_receive import overruns_receive_buffers
from clicooper_hpc.transport.message_kind import DIRECTIONS, Direction, Kind
from clicooper_hpc.transport.receiver import Receiver
from clicooper_hpc.transport.sender import Sender
from clicooper_hpc.transport.tap import Tap

if TYPE_CHECKING:
    from mpi4py import MPI

__all__ = ["MAX_TAG", "Comms", "Traffic", "World"]

# Lanes are MPI tags. Blobs and exchanges have tags of their own, above those of channels.
MAX_TAG = 99
_BLOB_TAG = 100
_EXCHANGE_TAG = 101

Way = Literal["sent", "received"]
WAYS: tuple[Way, ...] = ("sent", "received")
Place = tuple[Way, Direction, int, int]
Traffic = dict[tuple[Direction, Way], Counters]


@dataclass(frozen=True, slots=True)
class Comms:
    """The job's communicator and its duplicates, one per direction.

    Separate communicators keep messages apart that would otherwise match each other's receives.
    """

    job: MPI.Intracomm
    forward: MPI.Intracomm
    backward: MPI.Intracomm
    control: MPI.Intracomm


class World(Closing):
    """One rank among all ranks. Made by `clicooper_hpc.transport.mpi_library.start_mpi`.

    Parameters
    ----------
    comms
        The communicators.
    library
        Name and version of the MPI library, one line.
    processors
        Processor (host) name of every rank.
    local_rank
        Number of this rank among those on its node: picks the device.
    cores
        Cores for this rank alone.
    """

    def __init__(
        self, comms: Comms, *, library: str, processors: Sequence[str], local_rank: int, cores: int
    ) -> None:
        self.rank: int = comms.job.Get_rank()
        self.size: int = comms.job.Get_size()
        self.comms = comms
        self.library = library
        self.processors = tuple(processors)
        self.local_rank = local_rank
        self.cores = cores
        self._tap: Tap | None = None
        self._match_first = overruns_receive_buffers(library)
        self._channels: list[tuple[Place, Sender | Receiver]] = []
        self._sent = Counters()
        self._received = Counters()
        self._exchanges = 0

    def close_on_exit(self, error: BaseException | None) -> None:
        """Close all channels; after an error without waiting for what was sent to be taken."""
        self.close(flush=error is None)

    def tap_into(self, folder: Path) -> None:
        """Write every byte sent from now on into ``folder``; see `clicooper_hpc.transport.tap`."""
        # Links copy the tap when they are made: one opened before would go unrecorded.
        if self._channels or self._tap is not None:
            raise ValueError("set the tap once, before the first channel is opened")
        self._tap = Tap(folder, self.rank)

    def open_sender(
        self,
        direction: Direction,
        peer: int,
        *,
        capacity_bytes: int,
        slots: int,
        deadline_s: float,
        tag: int = 0,
        pinned: bool = False,
    ) -> Sender:
        """Open the sending end of a channel; see `Sender`.

        ``tag`` tells several channels in one direction between the same two ranks apart. A tag
        may be opened again once it is closed at both ends: let the ranks meet in between, or a
        receive about to be withdrawn takes the first message of the new channel.
        """
        place = self._free_place("sent", direction, peer, tag)
        sender = Sender(
            self._link(direction, peer, tag),
            capacity_bytes=capacity_bytes,
            slots=slots,
            deadline_s=deadline_s,
            pinned=pinned,
        )
        self._channels.append((place, sender))
        return sender

    def open_receiver(
        self,
        direction: Direction,
        peer: int,
        *,
        capacity_bytes: int,
        slots: int,
        deadline_s: float,
        tag: int = 0,
        pinned: bool = False,
    ) -> Receiver:
        """Open the receiving end of a channel; see `Receiver`."""
        place = self._free_place("received", direction, peer, tag)
        receiver = Receiver(
            self._link(direction, peer, tag),
            capacity_bytes=capacity_bytes,
            slots=slots,
            deadline_s=deadline_s,
            pinned=pinned,
        )
        self._channels.append((place, receiver))
        return receiver

    def send_blob(
        self, peer: int, payload: Blob, *, kind: Kind, step: int, deadline_s: float
    ) -> None:
        """Send a long byte string to ``peer``, which must call `receive_blob`."""
        link = self._link("control", peer, _BLOB_TAG)
        self._sent.merge(send_blob(link, payload, kind=kind, step=step, deadline_s=deadline_s))

    def receive_blob(
        self, peer: int, *, kind: Kind, step: int, limit_bytes: int, deadline_s: float
    ) -> bytearray:
        """Receive a long byte string of at most ``limit_bytes`` from ``peer``."""
        content, counters = receive_blob(
            self._link("control", peer, _BLOB_TAG),
            kind=kind,
            step=step,
            limit_bytes=limit_bytes,
            deadline_s=deadline_s,
        )
        self._received.merge(counters)
        return content

    def broadcast_bytes(
        self, payload: bytes | None, *, root: int = 0, limit_bytes: int, deadline_s: float
    ) -> bytes:
        """Give all ranks the ``payload`` of ``root``; the others pass ``None``.

        Raises
        ------
        PeerError
            If a rank does not take part within the deadline, or ``payload`` is longer than
            ``limit_bytes``.
        """
        return broadcast(self._star(root), payload, limit_bytes=limit_bytes, deadline_s=deadline_s)

    def gather_bytes(
        self, payload: bytes, *, root: int = 0, limit_bytes: int, deadline_s: float
    ) -> list[bytes] | None:
        """Bring the ``payload`` of every rank to ``root``, in rank order; the others get ``None``.

        ``root`` takes them one after the other: the last sender waits for all before it.
        """
        return gather(self._star(root), payload, limit_bytes=limit_bytes, deadline_s=deadline_s)

    def allreduce_failure(self, code: int, message: str, *, deadline_s: float) -> Agreement:
        """Let all ranks learn whether one of them failed: code 0 means that all is well.

        Every rank must call this at the same point; all get the same answer.
        """
        # Two stars: up and down are two exchanges, each with its number.
        return allreduce_failure(self._star(0), self._star(0), code, message, deadline_s=deadline_s)

    def abort(self, code: int) -> NoReturn:
        """End all ranks at once with exit status ``code``; see `abort_ranks`."""
        abort_ranks(self.comms.job, code)

    def set_deadline(self, deadline_s: float) -> None:
        """Let all open channels wait so long for a message from now on."""
        # Waits are long until the first step and while the owner evaluates, and short in between.
        for _, channel in self._channels:
            channel.deadline_s = deadline_s

    def traffic(self) -> Traffic:
        """Return what went over all channels and blobs so far, per direction and way."""
        total: Traffic = {(direction, way): Counters() for direction in DIRECTIONS for way in WAYS}
        # Blobs and exchanges open channels of their own for a moment; these are their sums.
        total["control", "sent"].merge(self._sent)
        total["control", "received"].merge(self._received)
        for (way, direction, _, _), channel in self._channels:
            total[direction, way].merge(channel.counters)
        return total

    def close(self, *, flush: bool = True) -> None:
        """Close all channels, so that MPI can shut down without waiting for anything.

        Parameters
        ----------
        flush
            Wait until everything sent is taken. Without it (after an error) receives are only
            withdrawn; end the job with `abort` then.
        """
        for _, channel in self._channels:
            # Without flush senders stay open: a peer that failed would be waited for in vain.
            if not channel.closed and (flush or isinstance(channel, Receiver)):
                channel.close()
        if self._tap is not None:
            self._tap.close()
            self._tap = None

    def _link(self, direction: Direction, peer: int, tag: int) -> Link:
        if not 0 <= peer < self.size:
            raise ValueError(f"no rank {peer} among {self.size}")
        # Directions are named as their communicators are.
        comm: MPI.Intracomm = getattr(self.comms, direction)
        return Link(comm, self.rank, peer, direction, tag, self._tap, self._match_first)

    def _free_place(self, way: Way, direction: Direction, peer: int, tag: int) -> Place:
        """Refuse a second channel on a link: its receives would take the first one's messages."""
        if not 0 <= tag <= MAX_TAG:
            raise ValueError(f"tag {tag} is not within 0..{MAX_TAG}")
        place = (way, direction, peer, tag)
        if any(place == other and not channel.closed for other, channel in self._channels):
            raise ValueError(f"a channel is open at {place}: take another tag")
        return place

    def _star(self, root: int) -> Star:
        # Counted alike on all ranks: one that skipped an exchange shows by a wrong number.
        self._exchanges += 1
        peers = [rank for rank in range(self.size) if rank != root] if self.rank == root else [root]
        links = tuple(self._link("control", peer, _EXCHANGE_TAG) for peer in peers)
        return Star(self.rank, root, links, self._exchanges, self._sent, self._received)
