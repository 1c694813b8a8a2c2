"""`DType`: element types of payloads on the wire, and the torch dtypes they stand for."""

from __future__ import annotations

from enum import IntEnum

import torch

__all__ = ["DType", "torch_dtype_of", "wire_dtype_of"]


class DType(IntEnum):
    """Element type of a payload; the number is its code on the wire.

    All types are little-endian; the two 16-bit floats travel as their raw bytes.
    """

    # Codes on the wire: never reuse one.
    FLOAT32 = 1
    FLOAT64 = 2
    FLOAT16 = 3
    BFLOAT16 = 4
    INT8 = 5
    UINT8 = 6
    INT32 = 7
    INT64 = 8

    @property
    def itemsize(self) -> int:
        """Bytes per element."""
        return _ITEMSIZE[self]


_ITEMSIZE = {
    DType.FLOAT32: 4,
    DType.FLOAT64: 8,
    DType.FLOAT16: 2,
    DType.BFLOAT16: 2,
    DType.INT8: 1,
    DType.UINT8: 1,
    DType.INT32: 4,
    DType.INT64: 8,
}

_TORCH = {
    DType.FLOAT32: torch.float32,
    DType.FLOAT64: torch.float64,
    DType.FLOAT16: torch.float16,
    DType.BFLOAT16: torch.bfloat16,
    DType.INT8: torch.int8,
    DType.UINT8: torch.uint8,
    DType.INT32: torch.int32,
    DType.INT64: torch.int64,
}
_WIRE = {dtype: code for code, dtype in _TORCH.items()}


def torch_dtype_of(dtype: DType) -> torch.dtype:
    """Return the torch type of a wire type."""
    return _TORCH[dtype]


def wire_dtype_of(tensor: torch.Tensor) -> DType:
    """Return the wire type of a tensor; ``ValueError`` if its type cannot travel."""
    try:
        return _WIRE[tensor.dtype]
    except KeyError:
        raise ValueError(f"{tensor.dtype} cannot travel in a message") from None
