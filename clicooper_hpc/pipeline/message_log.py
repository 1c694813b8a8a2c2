"""Digests of all messages of a stage, computed beside the training.

Both ends of a channel see the same bytes (header and payload), so both get the same leaves; the
Merkle root over them is what both sign. Hashing happens on a thread of its own: SHA-256 lets
Python's lock go, so on a free core training only pays for a copy of the bytes.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy import uint8
from numpy.typing import NDArray

from clicooper_hpc.digests import digest_bytes
from clicooper_hpc.provenance.merkle import leaf_hash, root_of
from clicooper_hpc.provenance.statements import Flow
from clicooper_hpc.transport.header import HEADER_BYTES
from clicooper_hpc.transport.link import Observer

__all__ = [
    "CHANNELS",
    "MESSAGE_TAG",
    "Channel",
    "LogTimes",
    "MessageLog",
    "Record",
    "message_digest",
]

MESSAGE_TAG = "clicooper/v1/message"

Channel = Literal["forward_in", "forward_out", "backward_in", "backward_out"]
CHANNELS: tuple[Channel, ...] = ("forward_in", "forward_out", "backward_in", "backward_out")

_STEP, _PART = slice(8, 16), slice(16, 20)
#: Copies that may wait for the thread before training waits for it.
_WAITING = 64


def message_digest(raw: bytes | memoryview | NDArray[uint8]) -> bytes:
    """Return the digest of one message, header and payload (32 bytes)."""
    content = raw.data if isinstance(raw, np.ndarray) else raw
    return digest_bytes(MESSAGE_TAG, content).value


@dataclass(frozen=True, slots=True)
class LogTimes:
    """Seconds spent: ``copy_s`` by training, ``digest_s`` by the thread beside it."""

    copy_s: float
    digest_s: float


@dataclass(slots=True)
class Record:
    """What went over one channel in a stage. ``size`` counts bytes of payloads.

    ``digests[i]`` belongs to the i-th message, ``places[i]`` is its (step, micro-batch).
    """

    digests: list[bytes] = field(default_factory=list)
    places: list[tuple[int, int]] = field(default_factory=list)
    size: int = 0

    @property
    def root(self) -> bytes:
        """RFC 9162 root over the digests."""
        return root_of([leaf_hash(digest) for digest in self.digests])

    def flow(self) -> Flow:
        """Return what a hand-off says of this channel."""
        return Flow(messages=len(self.digests), bytes=self.size, root=self.root.hex())


class MessageLog:
    """Collects the messages of training steps; those of later numbers (validation) are not seen.

    Parameters
    ----------
    total_steps
        Messages whose step is this or more do not belong to training.
    """

    def __init__(self, total_steps: int) -> None:
        self._total_steps = total_steps
        self._records: dict[Channel, Record] = {channel: Record() for channel in CHANNELS}
        self._queue: queue.Queue[tuple[Channel, NDArray[uint8], int] | None] = queue.Queue(_WAITING)
        # Buffers are used again: fresh memory costs more than the copy into it.
        self._free: deque[NDArray[uint8]] = deque()
        self._busy_s = self._copy_s = 0.0
        self._thread = threading.Thread(target=self._work, name="message-log", daemon=True)
        self._thread.start()

    def observer(self, channel: Channel) -> Observer:
        """Return what a sender or receiver shall call with each message of ``channel``."""

        def observe(raw: NDArray[uint8]) -> None:
            start = time.perf_counter()
            if int.from_bytes(raw[_STEP].tobytes(), "little", signed=True) < self._total_steps:
                self._queue.put((channel, self._copied(raw), raw.size))
            self._copy_s += time.perf_counter() - start

        return observe

    def take(self) -> tuple[dict[Channel, Record], LogTimes]:
        """Wait for the thread, return the records and what they took, and begin anew."""
        self._queue.join()
        records, times = self._records, LogTimes(self._copy_s, self._busy_s)
        self._records = {channel: Record() for channel in CHANNELS}
        self._busy_s = self._copy_s = 0.0
        return records, times

    def _copied(self, raw: NDArray[uint8]) -> NDArray[uint8]:
        try:
            buffer = self._free.pop()
        except IndexError:
            buffer = np.empty(raw.size, uint8)
        if buffer.size < raw.size:
            buffer = np.empty(raw.size, uint8)
        np.copyto(buffer[: raw.size], raw)
        return buffer

    def close(self) -> None:
        """End the thread."""
        self._queue.put(None)
        self._thread.join()

    def _work(self) -> None:
        while (item := self._queue.get()) is not None:
            start = time.perf_counter()
            channel, buffer, size = item
            raw = buffer[:size]
            record = self._records[channel]
            record.digests.append(message_digest(raw))
            step = int.from_bytes(raw[_STEP].tobytes(), "little", signed=True)
            record.places.append((step, int.from_bytes(raw[_PART].tobytes(), "little")))
            record.size += size - HEADER_BYTES
            self._free.append(buffer)
            self._busy_s += time.perf_counter() - start
            self._queue.task_done()
        self._queue.task_done()
