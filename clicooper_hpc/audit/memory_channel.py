"""`MemoryChannel`: both ends of a channel between two segments of one process, without MPI.

A message lies in memory of the same layout and alignment as in a run (kernels may choose their
path by alignment), and is copied once. A channel has as many slots as a run's receiver: a sender
waits while all are taken, so that a segment without feedback cannot run ahead for ever.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import torch
from torch import Tensor

from clicooper_hpc.audit.cooperative_threads import CooperativeThreads
from clicooper_hpc.audit.message_trace import Stream, TraceRecorder
from clicooper_hpc.errors import ClicooperError
from clicooper_hpc.transport.channel import Message
from clicooper_hpc.transport.header import Header, pack_header_into
from clicooper_hpc.transport.message_kind import Kind
from clicooper_hpc.transport.slot import Slot
from clicooper_hpc.transport.wire_dtype import torch_dtype_of, wire_dtype_of

__all__ = ["MemoryChannel", "pack_memory_message"]


def pack_memory_message(
    tensor: Tensor, kind: Kind, step: int, micro_batch: int
) -> tuple[Header, Slot]:
    """Return ``tensor`` as the message it would be on the wire, in a slot just large enough."""
    header = Header(kind, wire_dtype_of(tensor), tuple(tensor.shape), step, micro_batch)
    slot = Slot(header.payload_bytes)
    pack_header_into(slot.header, header)
    slot.payload_view(tensor.dtype, header.shape).copy_(tensor.detach())
    return header, slot


class MemoryChannel:
    """Both ends of one channel: `send` for one segment, `receive` and `recycle` for its neighbour.

    Parameters
    ----------
    stream
        Which channel of the run this stands for.
    slots
        Messages that can be sent and not yet recycled.
    threads
        What lets the other segments run while an end waits.
    recorder
        Notes every message when it is sent and when it is received.
    """

    def __init__(
        self, stream: Stream, *, slots: int, threads: CooperativeThreads, recorder: TraceRecorder
    ) -> None:
        if slots < 1:
            raise ValueError(f"{slots} slots")
        self._stream = stream
        self._slots = slots
        self._threads = threads
        self._recorder = recorder
        self._waiting: deque[tuple[Header, Slot]] = deque()
        self._held: set[int] = set()
        self._serial = 0

    @property
    def sender(self) -> str:
        """Who sends, in words, for errors."""
        return f"the sending end of {self._stream}"

    def send(
        self, tensor: Tensor, kind: Kind, step: int, micro_batch: int, *, blob_bytes: int = 0
    ) -> None:
        """Send a copy of ``tensor``; see `clicooper_hpc.transport.sender.Sender.send`."""
        del blob_bytes  # no blob crosses a channel between segments
        self._threads.wait(
            lambda: len(self._waiting) + len(self._held) < self._slots,
            f"{self._stream} to take the {kind.words} of step {step}, micro-batch {micro_batch}",
        )
        # Packed as for the wire, since digests are of header and payload as they travel.
        message = pack_memory_message(tensor, kind, step, micro_batch)
        self._recorder.note_sent(self._stream, message[0], message[1].raw)
        self._waiting.append(message)

    def ready(self) -> bool:
        """Return whether the next `receive` would not wait."""
        return bool(self._waiting)

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
        """Wait for the message described; see `Receiver.receive`.

        Raises
        ------
        ClicooperError
            If another message is next, or one of another form.
        """
        del blob_bytes
        wanted = f"the {kind.words} of step {step}, micro-batch {micro_batch}"
        self._threads.wait(self.ready, f"{wanted} on {self._stream}")
        header, slot = self._waiting.popleft()
        came_shape, came_dtype = header.shape, torch_dtype_of(header.dtype)
        # As a receiver checks: a replay with a wrong job must end here, not in a false verdict.
        right = (header.kind, header.step, header.micro_batch) == (kind, step, micro_batch)
        if shape is not None:
            right &= len(shape) == len(came_shape) and all(
                size in (None, got) for size, got in zip(shape, came_shape, strict=True)
            )
        if not right or dtype not in (None, came_dtype):
            raise ClicooperError(
                f"{wanted} was due, and what came is the {header.kind.words} of step "
                f"{header.step}, micro-batch {header.micro_batch}, {came_dtype} {list(came_shape)}",
                where=f"replay, {self._stream}",
                remedy="Give the audit the job, the cuts and the schedule of the run",
            )
        self._serial += 1
        self._held.add(self._serial)
        self._recorder.note_received(self._stream)
        # Detached, as the receiver's: a leaf that can gather a gradient.
        tensor = slot.payload_view(came_dtype, came_shape).detach()
        return Message(header, tensor, 0.0, self._serial)

    def recycle(self, message: Message) -> None:
        """Give the slot of ``message`` back."""
        if message.serial not in self._held:
            raise ValueError("this message was recycled before, or is another channel's")
        self._held.remove(message.serial)
