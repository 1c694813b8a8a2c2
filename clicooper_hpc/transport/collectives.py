"""Collectives of a few kilobytes among all ranks, built on bounded blobs with deadlines.

MPI's own collectives know no deadline and no length check: a rank that is late or lies would hang
or break the others. Every exchange is a star around one rank and carries its number, so ranks
that have lost step find out.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from clicooper_hpc.errors import ExitCode, PeerError
from clicooper_hpc.transport.blob import receive_blob, send_blob
from clicooper_hpc.transport.channel import Counters
from clicooper_hpc.transport.failure_report import (
    REPORT_BYTES,
    encode_failure_text,
    read_failure_report,
)
from clicooper_hpc.transport.link import Link
from clicooper_hpc.transport.message_kind import Kind

__all__ = ["Agreement", "Star", "allreduce_failure", "broadcast", "gather"]

# What goes to the root: this rank's code. What comes back: the code and rank of the first failure.
_UP = struct.Struct("<i")
_DOWN = struct.Struct("<ii")


@dataclass(frozen=True, slots=True)
class Agreement:
    """Outcome of a step of all ranks: code 0, or the first failed rank's code and message.

    The code of a failure is one of `FAILURE_CODES`, whatever was reported; see
    `read_failure_report`. ``rank`` is -1 if no rank failed; the first is the one with the lowest
    number. ``is_shared`` is False where a rank failed and the root told it that none has: nobody
    else reports it then.
    """

    code: int
    message: str
    rank: int
    is_shared: bool = True


@dataclass(frozen=True, slots=True)
class Star:
    """One rank's part in one exchange: links to all others at the root, to the root elsewhere.

    Parameters
    ----------
    me, root
        This rank and the middle of the star.
    links
        In rank order.
    number
        Counts the exchanges of the job; equal on all ranks that are in step.
    sent, received
        Where to count what it took.
    """

    me: int
    root: int
    links: tuple[Link, ...]
    number: int
    sent: Counters
    received: Counters

    def send_bytes(self, link: Link, payload: bytes, deadline_s: float) -> None:
        """Send ``payload`` over one link."""
        self.sent.merge(
            send_blob(link, payload, kind=Kind.CONTROL, step=self.number, deadline_s=deadline_s)
        )

    def receive_bytes(self, link: Link, limit_bytes: int, deadline_s: float) -> bytes:
        """Receive at most ``limit_bytes`` from one link."""
        content, counters = receive_blob(
            link,
            kind=Kind.CONTROL,
            step=self.number,
            limit_bytes=limit_bytes,
            deadline_s=deadline_s,
        )
        self.received.merge(counters)
        return bytes(content)


def broadcast(star: Star, payload: bytes | None, *, limit_bytes: int, deadline_s: float) -> bytes:
    """Return the root's ``payload`` on every rank; the others pass ``None``."""
    # A bug in the caller: two ranks that both think they are the root would wait for each other.
    if (star.me == star.root) != (payload is not None):
        raise ValueError("exactly the root passes a payload")
    if payload is None:
        return star.receive_bytes(star.links[0], limit_bytes, deadline_s)
    _check_length(payload, limit_bytes)
    for link in star.links:
        star.send_bytes(link, payload, deadline_s)
    return payload


def gather(
    star: Star, payload: bytes, *, limit_bytes: int, deadline_s: float
) -> list[bytes] | None:
    """Return every rank's ``payload`` in rank order at the root, ``None`` elsewhere."""
    _check_length(payload, limit_bytes)
    if star.me != star.root:
        star.send_bytes(star.links[0], payload, deadline_s)
        return None
    parts = {link.peer: star.receive_bytes(link, limit_bytes, deadline_s) for link in star.links}
    parts[star.me] = payload
    return [parts[rank] for rank in sorted(parts)]


def allreduce_failure(
    inwards: Star, outwards: Star, code: int, message: str, *, deadline_s: float
) -> Agreement:
    """Return the first failure among all ranks, on all ranks; see `Agreement`.

    Parameters
    ----------
    inwards, outwards
        Stars of the two exchanges, with the same root.
    code, message
        This rank's outcome, 0 and no message for success. Messages are cut at 4 KiB.
    deadline_s
        Longest wait for one rank.
    """
    parts = gather(
        inwards,
        _UP.pack(code) + encode_failure_text(message),
        limit_bytes=_UP.size + REPORT_BYTES,
        deadline_s=deadline_s,
    )
    worst = None
    if parts is not None:
        worst = _DOWN.pack(ExitCode.DONE, -1)
        for rank, part in enumerate(parts):
            # A peer is not trusted: unpacking a short part would be a traceback, not an error.
            _check_outcome(part, _UP.size, rank)
            (theirs,) = _UP.unpack_from(part)
            found, text = read_failure_report(theirs, part[_UP.size :], rank)
            # The first is the lowest rank: every rank reports the same one.
            if found != ExitCode.DONE:
                worst = _DOWN.pack(found, rank) + encode_failure_text(text)
                break
    shared = broadcast(
        outwards, worst, limit_bytes=_DOWN.size + REPORT_BYTES, deadline_s=deadline_s
    )
    _check_outcome(shared, _DOWN.size, outwards.root)
    verdict, rank = _DOWN.unpack_from(shared)
    # The root is not trusted either: what it sends on is held to the same rule, and no word of it
    # makes a success of this rank's failure.
    found, text = read_failure_report(verdict, shared[_DOWN.size :], outwards.root)
    if found != ExitCode.DONE:
        return Agreement(found, text, max(rank, 0))
    if code != ExitCode.DONE:
        return Agreement(code, message, inwards.me, is_shared=False)
    return Agreement(ExitCode.DONE, "", -1)


def _check_length(payload: bytes, limit_bytes: int) -> None:
    if len(payload) > limit_bytes:
        raise ValueError(f"{len(payload)} bytes in an exchange of at most {limit_bytes}")


def _check_outcome(part: bytes, size: int, rank: int) -> None:
    if len(part) < size:
        raise PeerError(
            f"a verdict of {len(part)} bytes, it has at least {size}",
            where=f"message from rank {rank} (control)",
            remedy=f"Run one clicooper_hpc version on all ranks; else rank {rank} is at fault",
        )
