"""`Slot`: a reusable message buffer, 64 bytes of header and the payload behind them."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from clicooper_hpc.errors import UsageError
from clicooper_hpc.transport.header import HEADER_BYTES

__all__ = ["MAX_PAYLOAD_BYTES", "Slot", "check_slot_capacity"]

# MPI libraries before MPI-4 count the bytes of a message in a C int.
MAX_PAYLOAD_BYTES = 2**31 - 1 - HEADER_BYTES
# Bounds the memory of a channel that does carry many shapes.
_MOST_VIEWS = 8
# numpy has no bfloat16: its bits are the upper half of those of a float32.
_FLOATS = {
    torch.float32: np.float32,
    torch.float64: np.float64,
    torch.float16: np.float16,
    torch.bfloat16: np.uint16,
}


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


class _View(NamedTuple):
    """A payload as a tensor and, if it is floating-point, flat as an array."""

    tensor: torch.Tensor
    array: NDArray[Any] | None


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
        self._views: dict[tuple[torch.dtype, tuple[int, ...]], _View] = {}

    def payload_view(self, dtype: torch.dtype, shape: tuple[int, ...]) -> torch.Tensor:
        """View the payload as a tensor of ``dtype`` and ``shape``, without a copy.

        The caller has checked that it fits.
        """
        return self._view(dtype, shape).tensor

    def payload_numbers(self, dtype: torch.dtype, shape: tuple[int, ...]) -> NDArray[Any] | None:
        """Return the same payload flat, float32 or float64 [n]; None for integers.

        Without a copy, but for 16-bit floats, which become float32.
        """
        array = self._view(dtype, shape).array
        if array is None or dtype is torch.float32 or dtype is torch.float64:
            return array
        if dtype is torch.bfloat16:
            wide: NDArray[Any] = np.left_shift(array, 16, dtype=np.uint32).view(np.float32)
            return wide
        return array.astype(np.float32)

    def _view(self, dtype: torch.dtype, shape: tuple[int, ...]) -> _View:
        # Kept, as making one takes microseconds and a channel carries the same few shapes all
        # along.
        view = self._views.get((dtype, shape))
        if view is None:
            view = self._new_view(dtype, shape)
            if len(self._views) >= _MOST_VIEWS:
                self._views.clear()
            self._views[dtype, shape] = view
        return view

    def _new_view(self, dtype: torch.dtype, shape: tuple[int, ...]) -> _View:
        count = math.prod(shape)
        array = None
        if dtype in _FLOATS:
            array = np.frombuffer(self.raw, _FLOATS[dtype], count, HEADER_BYTES)
        # torch.frombuffer refuses a count of 0.
        if count == 0:
            return _View(torch.empty(shape, dtype=dtype), array)
        flat = torch.frombuffer(self.raw, dtype=dtype, count=count, offset=HEADER_BYTES)
        return _View(flat.view(shape), array)
