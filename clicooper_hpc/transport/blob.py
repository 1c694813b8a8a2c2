"""Transfer of long byte strings (a segment, a table of sub-labels) in bounded chunks.

Every chunk is an ordinary message: its micro-batch is the number of the chunk, its ``blob_bytes``
the length of the whole. The receiver checks that length against its own bound before it makes
room, and takes no chunk that is not exactly the next one.
"""

from __future__ import annotations

import contextlib

import numpy as np
import torch
from numpy.typing import NDArray

from clicooper_hpc.errors import PeerError
from clicooper_hpc.transport.channel import Counters
from clicooper_hpc.transport.link import Link
from clicooper_hpc.transport.message_kind import Kind
from clicooper_hpc.transport.receiver import Receiver
from clicooper_hpc.transport.sender import Sender

__all__ = ["CHUNK_BYTES", "Blob", "receive_blob", "send_blob"]

CHUNK_BYTES = 4 * 2**20

Blob = bytes | bytearray | memoryview | NDArray[np.generic] | torch.Tensor


def _flat_blob_bytes(payload: Blob) -> NDArray[np.uint8]:
    """View (or, where it must, copy) ``payload`` as a one-dimensional array of bytes."""
    if isinstance(payload, torch.Tensor):
        return payload.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
    if not isinstance(payload, np.ndarray):
        return np.frombuffer(payload, dtype=np.uint8)
    return np.ascontiguousarray(payload).reshape(-1).view(np.uint8)


def send_blob(
    link: Link,
    payload: Blob,
    *,
    kind: Kind,
    step: int,
    deadline_s: float,
    chunk_bytes: int = CHUNK_BYTES,
) -> Counters:
    """Send all bytes of ``payload`` and wait until they are taken.

    Parameters
    ----------
    link
        Where to; the peer must be in, or come to, the matching `receive_blob`.
    payload
        Bytes, or an array or tensor whose bytes are sent in C order.
    kind, step
        What the receiver will ask for.
    deadline_s
        Longest wait for the peer to take one chunk.
    chunk_bytes
        Length of all chunks but the last; the same on both sides.

    Returns
    -------
    Counters
        What it took.

    Raises
    ------
    PeerError
        If the peer takes a chunk too late or is gone.
    """
    content = _flat_blob_bytes(payload)
    total = content.size
    # Two slots: one chunk is copied while the other is under way.
    sender = Sender(link, capacity_bytes=min(total, chunk_bytes), slots=2, deadline_s=deadline_s)
    # max(total, 1): an empty blob is one empty chunk, for the receiver waits for a first message.
    for index, start in enumerate(range(0, max(total, 1), chunk_bytes)):
        # A copy, since the content may be read-only and torch knows no such tensor.
        chunk = torch.from_numpy(content[start : start + chunk_bytes].copy())
        sender.send(chunk, kind, step, index, blob_bytes=total)
    sender.flush()
    return sender.counters


def receive_blob(
    link: Link,
    *,
    kind: Kind,
    step: int,
    limit_bytes: int,
    deadline_s: float,
    chunk_bytes: int = CHUNK_BYTES,
) -> tuple[bytearray, Counters]:
    """Receive what the peer sends with `send_blob`.

    Parameters
    ----------
    link
        Where from.
    kind, step
        What must come.
    limit_bytes
        Longest blob accepted.
    deadline_s
        Longest wait for one chunk.
    chunk_bytes
        Length of all chunks but the last; the same on both sides.

    Returns
    -------
    tuple[bytearray, Counters]
        The bytes and what it took.

    Raises
    ------
    PeerError
        If a chunk comes too late, is not the next one, or the blob is longer than
        ``limit_bytes``; nothing of the blob's length is allocated before it is known to fit.
    """
    # One slot: a second receive posted in advance could take the first chunk of the next blob.
    receiver = Receiver(
        link,
        capacity_bytes=min(limit_bytes, chunk_bytes),
        slots=1,
        deadline_s=deadline_s,
    )
    with contextlib.closing(receiver):
        message = receiver.receive(kind, step, 0, dtype=torch.uint8, shape=(None,), blob_bytes=None)
        # Said by the peer, so compared with our own bound before it decides what is allocated.
        total = message.header.blob_bytes
        if total > limit_bytes:
            raise PeerError(
                f"the {kind.words} of step {step} has {total} bytes, more than the "
                f"{limit_bytes} allowed",
                where=f"message from rank {link.peer} ({link.direction})",
                remedy=f"Give all ranks the same job; else rank {link.peer} is at fault",
            )
        # Grows with what comes: room for what is only announced would be the peer's to ask for.
        content = bytearray()
        for index, start in enumerate(range(0, max(total, 1), chunk_bytes)):
            size = min(chunk_bytes, total - start)
            if index > 0:
                receiver.recycle(message)
                message = receiver.receive(
                    kind, step, index, dtype=torch.uint8, shape=(size,), blob_bytes=total
                )
            # The first was received in any shape, as its size follows from a total not known then.
            elif message.header.payload_bytes != size:
                raise PeerError(
                    f"the first chunk of the {kind.words} of step {step} has "
                    f"{message.header.payload_bytes} bytes instead of {size}",
                    where=f"message from rank {link.peer} ({link.direction})",
                    remedy=f"Give all ranks the same job; else rank {link.peer} is at fault",
                )
            content += message.tensor.numpy().data
    return content, receiver.counters
