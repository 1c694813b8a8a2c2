"""Digests of all messages of a stage, computed beside the training.

Both ends of a channel see the same bytes (header and payload), so both get the same leaves; the
Merkle root over them is what both sign. All that travels is hashed twice, so messages alone are
hashed with BLAKE3 (O'Connor, Aumasson, Neves and Wilcox-O'Hearn 2020), four times as fast as
SHA-256 where the processor has instructions for either. With a core to spare a helper thread does
it, and training pays for a copy of the bytes; without one the copy and the change of threads would
cost more than the digest, which is then taken at once.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from blake3 import blake3
from numpy import uint8
from numpy.typing import NDArray

from clicooper_hpc.provenance.merkle import merkle_leaf_hash, merkle_root
from clicooper_hpc.provenance.statements import Flow
from clicooper_hpc.transport.channel import Observer
from clicooper_hpc.transport.header import HEADER_BYTES

__all__ = [
    "CHANNELS",
    "MESSAGE_TAG",
    "Channel",
    "ChannelRecord",
    "DigestTimes",
    "MessageLog",
    "message_digest",
]

MESSAGE_TAG = "clicooper/v1/message"

Channel = Literal["forward_in", "forward_out", "backward_in", "backward_out"]
CHANNELS: tuple[Channel, ...] = ("forward_in", "forward_out", "backward_in", "backward_out")

# Where the header holds step and micro-batch; see `clicooper_hpc.transport.header`.
_STEP, _PART = slice(8, 16), slice(16, 20)
#: Copies that may wait for the thread before training waits for it.
_WAITING = 64


def message_digest(raw: bytes | memoryview | NDArray[uint8]) -> bytes:
    """Return BLAKE3(tag || 0x00 || header || payload) of one message (32 bytes)."""
    content = raw.data if isinstance(raw, np.ndarray) else raw
    # The tag keeps these digests apart from all others the package takes of the same bytes.
    state = blake3(MESSAGE_TAG.encode("ascii") + b"\x00")
    return state.update(content).digest()


@dataclass(frozen=True, slots=True)
class DigestTimes:
    """Seconds spent: ``training_s`` by training, ``helper_s`` by the thread beside it."""

    training_s: float
    helper_s: float


@dataclass(slots=True)
class ChannelRecord:
    """What went over one channel in a stage. ``size`` counts bytes of payloads.

    ``digests[i]`` belongs to the i-th message, ``places[i]`` is its (step, micro-batch).
    """

    digests: list[bytes] = field(default_factory=list)
    places: list[tuple[int, int]] = field(default_factory=list)
    size: int = 0

    @property
    def root(self) -> bytes:
        """RFC 9162 root over the digests."""
        return merkle_root([merkle_leaf_hash(digest) for digest in self.digests])

    def flow(self) -> Flow:
        """Return what a hand-off says of this channel."""
        return Flow(messages=len(self.digests), bytes=self.size, root=self.root.hex())


class MessageLog:
    """Collects the messages of training steps; those of later numbers (validation) are not seen.

    Parameters
    ----------
    total_steps
        Messages whose step is this or more do not belong to training.
    helper
        Whether a thread beside the training takes the digests.
    """

    def __init__(self, total_steps: int, *, helper: bool) -> None:
        self._total_steps = total_steps
        self._records: dict[Channel, ChannelRecord] = {
            channel: ChannelRecord() for channel in CHANNELS
        }
        self._training_s = 0.0
        self._helper = _Helper(self._note) if helper else None

    def digest_observer(self, channel: Channel) -> Observer:
        """Return what a sender or receiver calls with each message of ``channel``."""
        take = self._note if self._helper is None else self._helper.queue_message

        def observe(raw: NDArray[uint8]) -> None:
            start = time.perf_counter()
            # Hand-offs speak of training alone; an audit replays no validation.
            if _step(raw) < self._total_steps:
                take(channel, raw)
            self._training_s += time.perf_counter() - start

        return observe

    def take_digests(self) -> tuple[dict[Channel, ChannelRecord], DigestTimes]:
        """Wait for the helper, return the records and the time they took, and begin anew."""
        # A root over the records so far would leave out what is still in the queue.
        helper_s = 0.0 if self._helper is None else self._helper.take_busy_seconds()
        records, times = self._records, DigestTimes(self._training_s, helper_s)
        self._records = {channel: ChannelRecord() for channel in CHANNELS}
        self._training_s = 0.0
        return records, times

    def digests_so_far(self) -> dict[Channel, ChannelRecord]:
        """Wait for the helper and return the records so far, which stay."""
        if self._helper is not None:
            self._helper.wait_for_queue()
        return self._records

    def restore_digests(self, records: Mapping[Channel, ChannelRecord]) -> None:
        """Continue the records that a checkpoint held."""
        self._records = {channel: records[channel] for channel in CHANNELS}

    def close(self) -> None:
        """End the helper."""
        if self._helper is not None:
            self._helper.end_thread()

    def _note(self, channel: Channel, raw: NDArray[uint8]) -> None:
        record = self._records[channel]
        record.digests.append(message_digest(raw))
        record.places.append((_step(raw), int.from_bytes(raw[_PART].tobytes(), "little")))
        record.size += raw.size - HEADER_BYTES


class _Helper:
    """A thread that works through copies of messages, in order."""

    def __init__(self, work: Callable[[Channel, NDArray[uint8]], None]) -> None:
        self._work = work
        # Bounded: a helper that falls behind slows training down instead of filling the memory.
        self._queue: queue.Queue[tuple[Channel, NDArray[uint8], int] | None] = queue.Queue(_WAITING)
        # Buffers are used again: fresh memory costs more than the copy into it.
        self._free: deque[NDArray[uint8]] = deque()
        self._busy_s = 0.0
        # A daemon: a rank that fails must end without waiting for it.
        self._thread = threading.Thread(target=self._run, name="message-log", daemon=True)
        self._thread.start()

    def queue_message(self, channel: Channel, raw: NDArray[uint8]) -> None:
        """Copy ``raw`` for the thread."""
        try:
            buffer = self._free.pop()
        except IndexError:
            buffer = np.empty(raw.size, uint8)
        if buffer.size < raw.size:
            buffer = np.empty(raw.size, uint8)
        # The transport uses its buffer again as soon as the observer returns.
        np.copyto(buffer[: raw.size], raw)
        self._queue.put((channel, buffer, raw.size))

    def wait_for_queue(self) -> None:
        """Wait until all is done."""
        self._queue.join()

    def take_busy_seconds(self) -> float:
        """Wait until all is done; return the seconds the thread worked since the last call."""
        self.wait_for_queue()
        busy, self._busy_s = self._busy_s, 0.0
        return busy

    def end_thread(self) -> None:
        """End the thread."""
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (item := self._queue.get()) is not None:
            start = time.perf_counter()
            channel, buffer, size = item
            self._work(channel, buffer[:size])
            self._free.append(buffer)
            self._busy_s += time.perf_counter() - start
            self._queue.task_done()
        self._queue.task_done()


def _step(raw: NDArray[uint8]) -> int:
    return int.from_bytes(raw[_STEP].tobytes(), "little", signed=True)
