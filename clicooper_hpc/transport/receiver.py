"""`Receiver`: the receiving end of a channel over MPI."""

from __future__ import annotations

import contextlib
import logging
import math
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import torch

from clicooper_hpc.errors import PeerError
from clicooper_hpc.transport.channel import ChannelEnd, Message
from clicooper_hpc.transport.finite_payload import name_non_finite, root_mean_square
from clicooper_hpc.transport.growth_watch import Growth, GrowthWatch
from clicooper_hpc.transport.header import HEADER_BYTES, Header, unpack_header
from clicooper_hpc.transport.link import Link
from clicooper_hpc.transport.matched_receive import MatchedReceive
from clicooper_hpc.transport.message_kind import Kind
from clicooper_hpc.transport.pending_request import PendingMessage, request_error, wait_for_request
from clicooper_hpc.transport.slot import Slot
from clicooper_hpc.transport.wire_dtype import torch_dtype_of

if TYPE_CHECKING:
    from mpi4py import MPI

__all__ = ["Receiver"]

_log = logging.getLogger(__name__)

# A cancelled receive ends at once in a healthy library; on a broken one closing must still end.
_CANCEL_DEADLINE_S = 5.0


class _Cell:
    """A slot, the receive posted into it, and what became of that receive."""

    __slots__ = ("arrived", "fault", "request", "slot", "status")

    def __init__(
        self, slot: Slot, request: MPI.Request | MatchedReceive, status: MPI.Status
    ) -> None:
        self.slot = slot
        self.request = request
        self.status = status
        self.arrived = False
        self.fault: RuntimeError | None = None


class Receiver(ChannelEnd):
    """Receives messages in the order they were sent, into reused slots posted in advance.

    Parameters
    ----------
    link
        Where from.
    capacity_bytes
        Longest payload accepted.
    slots
        Messages that can be held at once. Each is posted again only when it is recycled: a
        tensor kept for a backward pass needs its slot until then.
    deadline_s
        Longest wait for a message in seconds.
    pinned
        Receive into page-locked memory; for payloads that go to a CUDA device.

    Raises
    ------
    UsageError
        If ``capacity_bytes`` is more than one MPI message can carry.
    """

    def __init__(
        self,
        link: Link,
        *,
        capacity_bytes: int,
        slots: int,
        deadline_s: float,
        pinned: bool = False,
    ) -> None:
        super().__init__(link, capacity_bytes=capacity_bytes, slots=slots, deadline_s=deadline_s)
        self._posted: deque[_Cell] = deque()
        self._held: dict[int, _Cell] = {}
        self._serial = 0
        self._watches: dict[Kind, GrowthWatch] = {}
        # Posted before anything is sent: a message that finds a receive needs no buffer of MPI's.
        for _ in range(slots):
            slot = Slot(capacity_bytes, pinned=pinned)
            self._posted.append(_Cell(slot, link.irecv(slot.raw), link.new_status()))

    @property
    def sender(self) -> str:
        """Who sends, in words, for errors."""
        return f"rank {self.link.peer}"

    def ready(self) -> bool:
        """Return whether the next `receive` would not wait; moves all messages on."""
        if not self._posted:
            return False
        head = self._posted[0]
        if not head.arrived:
            try:
                head.arrived = head.request.Test(head.status)
            except RuntimeError as error:  # raised by `receive`, which knows what was due
                head.arrived, head.fault = True, error
        return head.arrived

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
        """Wait for the next message, which must be the one described.

        Parameters
        ----------
        kind, step, micro_batch
            What must come next.
        dtype, shape
            If given, what the payload must be; ``None`` in ``shape`` leaves a dimension open.
        blob_bytes
            Length of the blob the message must be a chunk of, ``None`` for any; see
            `clicooper_hpc.transport.blob`.

        Returns
        -------
        Message
            Its ``tensor`` is a view of the slot, valid until `recycle`.

        Raises
        ------
        PeerError
            If nothing comes within the deadline, or something else comes, or numbers that are not
            finite. A refused message is dropped.
        ValueError
            If all slots are held.
        """
        if self.closed:
            raise ValueError("this channel is closed")
        if not self._posted:
            raise ValueError(f"all {len(self._held)} slots are held: recycle a message first")
        want = _ExpectedMessage(self.link, kind, step, micro_batch, blob_bytes)
        cell = self._posted[0]
        waited_s = 0.0
        try:
            if not self.ready():
                waited_s = self._await_cell(cell, want.waiting())
            if cell.fault is not None:
                raise request_error(cell.fault, want.waiting())
            header = self._checked_header(cell, want)
            _check_message_form(header, want, dtype, shape)
            # Detached: a leaf of its own, so that it can gather a gradient and be told apart later.
            tensor = cell.slot.payload_view(torch_dtype_of(header.dtype), header.shape).detach()
            self._check_numbers(cell.slot, header, want)
        except PeerError:
            # The refused message is dropped, but its slot goes back: the caller may ask again.
            if cell.arrived:
                self._repost_cell(self._posted.popleft())
            raise
        self._posted.popleft()
        self._serial += 1
        self._held[self._serial] = cell
        size = HEADER_BYTES + header.payload_bytes
        # After the checks: what was refused is neither counted nor part of a proof.
        self.counters.add(size, waited_s)
        if self.observer is not None:
            self.observer(cell.slot.raw[:size])
        return Message(header, tensor, waited_s, self._serial)

    def recycle(self, message: Message) -> None:
        """Give the slot of ``message`` back; its tensor must not be used any more.

        MPI writes behind autograd's back: a backward pass that still needs the tensor would take
        the next message for it. Recycled tensors count as changed, so it fails instead.
        """
        # By number, not by slot: a message recycled twice must not free its successor's slot.
        cell = self._held.pop(message.serial, None)
        if cell is None:
            raise ValueError("this message was recycled before, or is another channel's")
        torch.autograd.graph.increment_version(message.tensor)
        # A receive posted after closing would take the first message of the next channel.
        if not self.closed:
            self._repost_cell(cell)

    def close(self) -> None:
        """Withdraw the posted receives, so that MPI can shut down. Held tensors stay valid."""
        self.closed = True
        what = PendingMessage(
            self.link.me, self.link.peer, self.link.direction, Kind.CONTROL, step=0
        )
        while self._posted:
            cell = self._posted.popleft()
            if not cell.arrived:
                # A fault or a message half here at this point concerns nobody any more.
                with contextlib.suppress(PeerError, RuntimeError):
                    cell.request.Cancel()
                    wait_for_request(cell.request, deadline_s=_CANCEL_DEADLINE_S, what=what)

    def _await_cell(self, cell: _Cell, what: PendingMessage) -> float:
        """Wait until the receive in ``cell`` has ended; return the seconds waited."""
        try:
            waited_s = wait_for_request(
                cell.request, deadline_s=self.deadline_s, what=what, status=cell.status
            )
        except PeerError:
            # MPI takes a failed request away; one that is only late stays and may still succeed.
            cell.arrived = not cell.request
            raise
        cell.arrived = True
        return waited_s

    def _checked_header(self, cell: _Cell, want: _ExpectedMessage) -> Header:
        """Return the header of the message in ``cell`` if it is the wanted one."""
        # What MPI measured, not what the header says of itself.
        came = cell.status.Get_count()
        header = unpack_header(
            cell.slot.header[:came],
            capacity_bytes=self.capacity_bytes,
            peer=self.link.peer,
            direction=self.link.direction,
        )
        if came != HEADER_BYTES + header.payload_bytes:
            raise want.refused(
                f"announces {header.payload_bytes} bytes and has {came - HEADER_BYTES}"
            )
        if (
            header.kind != want.kind
            or header.step != want.step
            or header.micro_batch != want.micro_batch
        ):
            other = replace(
                want.waiting(),
                kind=header.kind,
                step=header.step,
                micro_batch=header.micro_batch,
                chunk=header.blob_bytes > 0,
            )
            raise want.refused(f"is the {other.message}: out of order")
        if want.blob_bytes is not None and header.blob_bytes != want.blob_bytes:
            raise want.refused(
                f"belongs to a blob of {header.blob_bytes} bytes instead of {want.blob_bytes}"
            )
        return header

    def _check_numbers(self, slot: Slot, header: Header, want: _ExpectedMessage) -> None:
        """Refuse what is not finite; say so if finite numbers grow without bound."""
        numbers = slot.payload_numbers(torch_dtype_of(header.dtype), header.shape)
        if numbers is None:
            return
        magnitude = root_mean_square(numbers)
        odd = name_non_finite(magnitude)
        # Before anything is computed from it: NaN would spread into weights, checkpoints and the
        # messages of ranks that did nothing wrong.
        if odd is not None:
            # Not "its training diverged": an honest rank looks before it sends, see `Sender.send`.
            raise want.refused(f"holds {odd}", remedy="Run one clicooper_hpc version on all ranks")
        # What travels as a norm is its square.
        if want.kind == Kind.NORM:
            magnitude = math.sqrt(magnitude)
        watch = self._watches.get(want.kind)
        if watch is None:
            watch = self._watches[want.kind] = GrowthWatch()
        growth = watch.note_magnitude(magnitude, want.step)
        if growth is not None:
            # Not an error: a run that diverges honestly looks the same, and may recover.
            _log.warning("%s", want.growing(growth))

    def _repost_cell(self, cell: _Cell) -> None:
        cell.request = self.link.irecv(cell.slot.raw)
        cell.arrived, cell.fault = False, None
        # At the end of the queue: MPI matches receives of one link in the order they are posted.
        self._posted.append(cell)


class _ExpectedMessage(NamedTuple):
    """The message a caller waits for; its words are only made when something goes wrong."""

    link: Link
    kind: Kind
    step: int
    micro_batch: int
    blob_bytes: int | None

    def waiting(self) -> PendingMessage:
        link = self.link
        chunk = self.blob_bytes != 0
        return PendingMessage(
            link.me, link.peer, link.direction, self.kind, self.step, self.micro_batch, chunk=chunk
        )

    def growing(self, growth: Growth) -> str:
        what = self.waiting()
        return (
            f"message from rank {what.peer} ({what.direction}): the {what.message} is "
            f"{growth.factor:.1e} times as large as any of the first {growth.first}: training "
            f"diverges, or rank {what.peer} or one before it on this way sends false numbers"
        )

    def refused(self, problem: str, *, remedy: str = "Give all ranks the same job") -> PeerError:
        what = self.waiting()
        return PeerError(
            f"rank {what.me} expected the {what.message}, but what came {problem}",
            where=f"message from rank {what.peer} ({what.direction})",
            remedy=f"{remedy}; else rank {what.peer} is at fault",
        )


def _check_message_form(
    header: Header,
    want: _ExpectedMessage,
    dtype: torch.dtype | None,
    shape: Sequence[int | None] | None,
) -> None:
    if dtype is not None and torch_dtype_of(header.dtype) != dtype:
        raise want.refused(f"holds {torch_dtype_of(header.dtype)} instead of {dtype}")
    if shape is not None and (
        len(shape) != len(header.shape)
        or any(size not in (None, got) for size, got in zip(shape, header.shape, strict=True))
    ):
        wanted = ", ".join("any" if size is None else str(size) for size in shape)
        raise want.refused(f"has shape {list(header.shape)} instead of [{wanted}]")
