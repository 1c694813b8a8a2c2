"""What a channel is: the protocols `Inbound` and `Outbound`, and what both of their MPI ends share.

A channel carries messages one way between two ranks, in order. `Receiver` and `Sender` are its ends
over MPI; the audit's `MemoryChannel` is both ends at once within one process.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch

from clicooper_hpc.transport.header import Header
from clicooper_hpc.transport.message_kind import Kind
from clicooper_hpc.transport.slot import check_slot_capacity

if TYPE_CHECKING:
    from numpy import uint8
    from numpy.typing import NDArray

    from clicooper_hpc.transport.link import Link

__all__ = ["ChannelEnd", "Counters", "Inbound", "Message", "Observer", "Outbound"]

#: Sees every message of a channel, header and payload as they travel (uint8 [bytes]); what it is
#: given is only valid during the call.
Observer = Callable[["NDArray[uint8]"], None]


@dataclass(frozen=True, slots=True, eq=False)
class Message:
    """A received message whose tensor lies in a slot of its channel until it is recycled."""

    header: Header
    tensor: torch.Tensor
    waited_s: float
    serial: int

    def tensor_on(self, device: torch.device) -> torch.Tensor:
        """Return the tensor on ``device``; no copy on the CPU.

        On another device the copy has landed when this returns, so the message may be recycled.
        """
        moved = self.tensor.to(device, non_blocking=device.type == "cuda")
        if device.type == "cuda":
            # A copy from pinned memory returns at once; MPI would overwrite the slot under it.
            torch.cuda.current_stream(device).synchronize()
        return moved


class Inbound(Protocol):
    """The receiving end of a channel."""

    @property
    def sender(self) -> str:
        """Who sends, in words, for errors: ``rank 3``."""
        ...

    def ready(self) -> bool:
        """Return whether the next `receive` would not wait."""
        ...

    def receive(
        self,
        kind: Kind,
        step: int,
        micro_batch: int,
        *,
        dtype: torch.dtype | None = None,
        shape: Sequence[int | None] | None = None,
        blob_bytes: int | None = 0,
    ) -> Message:
        """Wait for the next message, which must be the one described; see `Receiver.receive`."""
        ...

    def recycle(self, message: Message) -> None:
        """Give the slot of ``message`` back; its tensor must not be used any more."""
        ...


class Outbound(Protocol):
    """The sending end of a channel."""

    def send(
        self,
        tensor: torch.Tensor,
        kind: Kind,
        step: int,
        micro_batch: int,
        *,
        blob_bytes: int = 0,
    ) -> None:
        """Send ``tensor``; the caller may change it as soon as this returns."""
        ...


@dataclass(slots=True)
class Counters:
    """What went over a channel: messages, bytes with headers, seconds this rank waited."""

    messages: int = 0
    bytes: int = 0
    waited_s: float = 0.0

    def add(self, size: int, waited_s: float) -> None:
        """Count one message of ``size`` bytes."""
        self.messages += 1
        self.bytes += size
        self.waited_s += waited_s

    def merge(self, other: Counters) -> None:
        """Add what another channel counted."""
        self.messages += other.messages
        self.bytes += other.bytes
        self.waited_s += other.waited_s


class ChannelEnd:
    """What the two MPI ends of a channel have in common: link, bounds, counters, observer.

    Parameters
    ----------
    link
        Communicator, peer and tag.
    capacity_bytes
        Longest payload.
    slots
        Messages that can be held (receiving) or under way (sending) at once.
    deadline_s
        Longest wait for one message in seconds.

    Raises
    ------
    UsageError
        If ``capacity_bytes`` is more than one MPI message can carry.
    """

    def __init__(self, link: Link, *, capacity_bytes: int, slots: int, deadline_s: float) -> None:
        # Now, not with the first message of that size, which may come hours later.
        check_slot_capacity(capacity_bytes, link.peer)
        if slots < 1:
            raise ValueError(f"{slots} slots")
        self.link = link
        self.capacity_bytes = capacity_bytes
        self.deadline_s = deadline_s
        self.counters = Counters()
        self.closed = False
        #: Set from outside, once the channel is open: digests of messages for the proofs.
        self.observer: Observer | None = None
