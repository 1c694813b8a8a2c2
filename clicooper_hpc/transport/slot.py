"""`Slot`: a reusable message buffer, 64 bytes of header and the payload behind them."""

from __future__ import annotations

import math

import torch

from clicooper_hpc.errors import UsageError
from clicooper_hpc.transport.header import HEADER_BYTES

__all__ = ["MAX_PAYLOAD_BYTES", "Slot", "check_slot_capacity"]

# MPI libraries before MPI-4 count the bytes of a message in a C int.
MAX_PAYLOAD_BYTES = 2**31 - 1 - HEADER_BYTES
# Bounds the memory of a channel that does carry many shapes.
_MOST_VIEWS = 8


def check_slot_capacity(capacity_bytes: int, peer: int) -> None:
    """Refuse a payload no single message can carry.

    Raises
    ------
    UsageError
        If ``capacity_bytes`` exceeds `MAX_PAYLOAD_BYTES` (2 GiB less a header).
    """
    if capacity_bytes < 0:
        raise ValueError(f"a payload of {capacity_bytes} bytes")
    if capacity_bytes > MAX_PAYLOAD_BYTES:
        raise UsageError(
            f"a message of {capacity_bytes / 2**30:.2f} GiB exceeds MPI's 2 GiB",
            where=f"messages to or from rank {peer}",
            remedy="Use more micro-batches per step, or cut the network where activations are "
            "smaller",
        )


class Slot:
    """Header and payload of one message in one piece of memory.

    Parameters
    ----------
    capacity_bytes
        Room for the payload.
    pinned
        Use page-locked memory, for fast copies from and to a CUDA device.
    """

    __slots__ = ("_views", "capacity_bytes", "header", "raw")

    def __init__(self, capacity_bytes: int, *, pinned: bool = False) -> None:
        # One piece of memory for both: header and payload are one message, one MPI call.
        memory = torch.empty(HEADER_BYTES + capacity_bytes, dtype=torch.uint8, pin_memory=pinned)
        self.capacity_bytes = capacity_bytes
        self.raw = memory.numpy()
        self.header = self.raw.data[:HEADER_BYTES]
        self._views: dict[tuple[torch.dtype, tuple[int, ...]], torch.Tensor] = {}

    def payload_view(self, dtype: torch.dtype, shape: tuple[int, ...]) -> torch.Tensor:
        """View the payload as a tensor of ``dtype`` and ``shape``, without a copy.

        The caller has checked that it fits. Views are kept, as making one takes microseconds and
        a channel carries the same few shapes all along.
        """
        view = self._views.get((dtype, shape))
        if view is None:
            count = math.prod(shape)
            # torch.frombuffer refuses a count of 0.
            if count == 0:
                return torch.empty(shape, dtype=dtype)
            flat = torch.frombuffer(self.raw, dtype=dtype, count=count, offset=HEADER_BYTES)
            view = flat.view(shape)
            if len(self._views) >= _MOST_VIEWS:
                self._views.clear()
            self._views[dtype, shape] = view
        return view
