"""What a message can be: its kind, its element type, its direction."""

from __future__ import annotations

from enum import IntEnum
from typing import Literal

__all__ = ["DIRECTIONS", "DType", "Direction", "Kind"]

Direction = Literal["forward", "backward", "control"]

DIRECTIONS: tuple[Direction, ...] = ("forward", "backward", "control")


class Kind(IntEnum):
    """Purpose of a message; the number is its code on the wire."""

    CONTRACT = 1
    LABELS = 2
    RELEASE = 3
    ACTIVATION = 4
    GRADIENT = 5
    LOGITS = 6
    SEGMENT = 7
    NORM = 8
    METRICS = 9
    CONTROL = 10
    PROOF = 11

    @property
    def words(self) -> str:
        """The kind as it reads in an error."""
        return _KIND_WORDS[self]


_KIND_WORDS = {
    Kind.CONTRACT: "contract",
    Kind.LABELS: "sub-labels",
    Kind.RELEASE: "release",
    Kind.ACTIVATION: "activation",
    Kind.GRADIENT: "gradient",
    Kind.LOGITS: "logits",
    Kind.SEGMENT: "segment",
    Kind.NORM: "gradient norm",
    Kind.METRICS: "metrics",
    Kind.CONTROL: "control message",
    Kind.PROOF: "proof",
}


class DType(IntEnum):
    """Element type of a payload; the number is its code on the wire.

    All types are little-endian; the two 16-bit floats travel as their raw bytes.
    """

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
