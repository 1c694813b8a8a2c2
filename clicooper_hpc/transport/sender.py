"""`Sender`: the sending end of a channel over MPI."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import torch

from clicooper_hpc.errors import ClicooperError, DivergedError
from clicooper_hpc.transport.channel import ChannelEnd
from clicooper_hpc.transport.finite_payload import name_non_finite, root_mean_square
from clicooper_hpc.transport.header import HEADER_BYTES, Header, pack_header_into
from clicooper_hpc.transport.link import Link
from clicooper_hpc.transport.message_kind import Kind
from clicooper_hpc.transport.pending_request import PendingMessage, request_error, wait_for_request
from clicooper_hpc.transport.slot import Slot
from clicooper_hpc.transport.wire_dtype import torch_dtype_of, wire_dtype_of

if TYPE_CHECKING:
    from mpi4py import MPI

__all__ = ["Sender"]


class Sender(ChannelEnd):
    """Copies tensors into reused slots and sends them without blocking.

    Parameters
    ----------
    link
        Where to.
    capacity_bytes
        Longest payload.
    slots
        Messages that can be under way at once; the next one waits until the peer takes one.
    deadline_s
        Longest such wait in seconds.
    pinned
        Stage through page-locked memory; for tensors on a CUDA device.

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
        self._free = [Slot(capacity_bytes, pinned=pinned) for _ in range(slots)]
        self._under_way: deque[tuple[Slot, MPI.Request, Header]] = deque()
        self._pinned = pinned

    def send(
        self,
        tensor: torch.Tensor,
        kind: Kind,
        step: int,
        micro_batch: int,
        *,
        blob_bytes: int = 0,
    ) -> None:
        """Send ``tensor``; the caller may change it as soon as this returns.

        Parameters
        ----------
        tensor
            Any device and strides; at most six dimensions. What autograd knows of it stays here.
        kind, step, micro_batch
            What the receiver will ask for.
        blob_bytes
            Length of the blob this is a chunk of; see `clicooper_hpc.transport.blob`.

        Raises
        ------
        ClicooperError
            If the tensor holds NaN or infinity, which this rank then computed itself;
            `DivergedError` in training.
        PeerError
            If no slot becomes free within the deadline or MPI reports a fault.
        ValueError
            If the tensor does not fit the channel.
        """
        if self.closed:
            raise ValueError("this channel is closed")
        header = Header(
            kind, wire_dtype_of(tensor), tuple(tensor.shape), step, micro_batch, blob_bytes
        )
        size = header.payload_bytes
        # Refused here, where the tensor is known; the peer could only say "a longer message came".
        if size > self.capacity_bytes:
            raise ValueError(f"{size} bytes sent over a channel for {self.capacity_bytes}")
        # Before the header is packed: until MPI is done with a slot its bytes must stay.
        waited_s = self._reclaim_slot()
        slot = self._free[-1]
        pack_header_into(slot.header, header)
        # Copied: the caller goes on with its tensor, and the wire has C order whatever its strides.
        source = tensor.detach()
        view = slot.payload_view(source.dtype, header.shape)
        view.copy_(source, non_blocking=self._pinned and source.is_cuda)
        if source.is_cuda:
            # MPI reads the slot from the host: the copy must have landed before it starts.
            torch.cuda.current_stream(source.device).synchronize()
        # Of the copy, which lies in host memory: no second transfer from a GPU.
        self._check_finite(slot, header)
        raw = slot.raw[: HEADER_BYTES + size]
        # Before it leaves: once MPI has the buffer, nothing else may touch it.
        if self.observer is not None:
            self.observer(raw)
        request = self.link.isend(raw)
        self._under_way.append((self._free.pop(), request, header))
        self.counters.add(HEADER_BYTES + size, waited_s)

    def flush(self, deadline_s: float | None = None) -> None:
        """Wait until the peer has taken everything sent so far.

        Raises
        ------
        PeerError
            If one message takes longer than ``deadline_s`` (default: the channel's deadline).
        """
        while self._under_way:
            self.counters.waited_s += self._finish_oldest_send(
                self.deadline_s if deadline_s is None else deadline_s
            )

    def close(self) -> None:
        """Flush and give the slots' memory back."""
        self.flush()
        self._free.clear()
        self.closed = True

    def _check_finite(self, slot: Slot, header: Header) -> None:
        """Refuse to send what is not finite: the rank that computed it says so, not its peer."""
        numbers = slot.payload_numbers(torch_dtype_of(header.dtype), header.shape)
        odd = None if numbers is None else name_non_finite(root_mean_square(numbers))
        if odd is None:
            return
        what = self._pending_send(header)
        text = f"the {what.message} for rank {what.peer} ({what.direction}) holds {odd}"
        if header.kind == Kind.RELEASE:
            raise ClicooperError(text, remedy="Look at the data and the front")
        raise DivergedError(
            f"{text}: training diverged on this rank",
            remedy="Lower training.learning_rate, or set training.clip_norm",
        )

    def _reclaim_slot(self) -> float:
        """Make sure that a slot is free; return the seconds waited for it."""
        while self._under_way:
            slot, request, header = self._under_way[0]
            try:
                if not request.Test():
                    break
            except RuntimeError as error:
                raise request_error(error, self._pending_send(header)) from error
            self._under_way.popleft()
            self._free.append(slot)
        return 0.0 if self._free else self._finish_oldest_send(self.deadline_s)

    def _finish_oldest_send(self, deadline_s: float) -> float:
        slot, request, header = self._under_way[0]
        waited_s = wait_for_request(request, deadline_s=deadline_s, what=self._pending_send(header))
        self._under_way.popleft()
        self._free.append(slot)
        return waited_s

    def _pending_send(self, header: Header) -> PendingMessage:
        return PendingMessage(
            self.link.me,
            self.link.peer,
            self.link.direction,
            header.kind,
            header.step,
            header.micro_batch,
            sending=True,
            chunk=header.blob_bytes > 0,
        )
