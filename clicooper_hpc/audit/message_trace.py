"""`MessageTrace`: every message of a replay, and what each rank had received before it sent one.

Boundary b lies between rank b and rank b + 1 (rank 0 is the owner, rank i holds segment i). The
forward stream of a boundary carries releases (b = 0) or activations, the backward stream gradients;
running norms travel on both.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Literal

from numpy import uint8
from numpy.typing import NDArray

from clicooper_hpc.training.message_digests import message_digest
from clicooper_hpc.transport.header import Header
from clicooper_hpc.transport.message_kind import Kind

__all__ = ["MessageEvent", "MessageTrace", "SentMessage", "Stream", "TraceRecorder"]


@dataclass(frozen=True, slots=True, order=True)
class Stream:
    """One direction of one boundary."""

    boundary: int
    direction: Literal["forward", "backward"]

    @property
    def sender(self) -> int:
        """Rank that sends: 0 for the owner, else the number of the segment."""
        # Forward from rank b to b + 1, backward the other way.
        return self.boundary + (self.direction == "backward")

    @property
    def receiver(self) -> int:
        """Rank that receives."""
        return self.boundary + (self.direction == "forward")

    def __str__(self) -> str:
        return f"{_rank_name(self.sender)} -> {_rank_name(self.receiver)}"


@dataclass(frozen=True, slots=True)
class SentMessage:
    """One message of a stream: its place in training, bytes of its payload, its digest (32)."""

    stream: Stream
    index: int
    kind: Kind
    step: int
    micro_batch: int
    payload_bytes: int
    digest: bytes

    def __str__(self) -> str:
        return (
            f"{self.kind.words} of step {self.step}, micro-batch {self.micro_batch}, {self.stream}"
        )


@dataclass(frozen=True, slots=True)
class MessageEvent:
    """A segment sends or receives message number ``index`` of ``stream``."""

    sends: bool
    stream: Stream
    index: int


@dataclass(frozen=True, slots=True)
class MessageTrace:
    """All messages in one order that respects cause and effect; the same in every replay.

    Attributes
    ----------
    sent
        Messages in order of sending.
    events
        For each rank, what it sent and received, in the order in which it did.
    """

    sent: tuple[SentMessage, ...]
    events: dict[int, tuple[MessageEvent, ...]]

    def messages_of(self, stream: Stream) -> tuple[SentMessage, ...]:
        """Return the messages of one stream."""
        return tuple(message for message in self.sent if message.stream == stream)


class TraceRecorder:
    """Collects a `MessageTrace`."""

    def __init__(self) -> None:
        self._sent: list[SentMessage] = []
        self._events: dict[int, list[MessageEvent]] = {}
        self._count: Counter[tuple[Stream, bool]] = Counter()

    def note_sent(self, stream: Stream, header: Header, raw: NDArray[uint8]) -> None:
        """Note that a message leaves its sender; ``raw`` is header and payload."""
        index = self._note_event(stream, stream.sender, sends=True)
        self._sent.append(
            SentMessage(
                stream,
                index,
                header.kind,
                header.step,
                header.micro_batch,
                header.payload_bytes,
                message_digest(raw),  # now: the slot is reused after this call
            )
        )

    def note_received(self, stream: Stream) -> None:
        """Note that the receiver takes the next message."""
        self._note_event(stream, stream.receiver, sends=False)

    def message_trace(self) -> MessageTrace:
        """Return everything so far."""
        return MessageTrace(
            tuple(self._sent),
            {rank: tuple(events) for rank, events in sorted(self._events.items())},
        )

    def _note_event(self, stream: Stream, rank: int, *, sends: bool) -> int:
        index = self._count[stream, sends]
        # Counted apart for both ends: a message may be sent long before it is received.
        self._count[stream, sends] += 1
        # By rank and in order: a verdict asks what a rank had received before it sent something.
        self._events.setdefault(rank, []).append(MessageEvent(sends, stream, index))
        return index


def _rank_name(rank: int) -> str:
    return f"segment {rank}" if rank else "owner"
