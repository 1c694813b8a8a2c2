"""The fixed 64-byte header before every payload, as pure functions over bytes.

Layout, little-endian (offset: field):

====== ========= ==================================================================
offset type      field
====== ========= ==================================================================
0      4 bytes   magic ``CCHM``
4      uint8     version
5      uint8     kind
6      uint8     dtype
7      uint8     number of dimensions, at most 6
8      int64     step, >= 0
16     int32     micro-batch, >= 0; in a blob the chunk number
20     6 uint32  shape, unused dimensions 0
44     uint64    payload bytes = product of the shape times the item size
52     uint64    bytes of the whole blob this chunk belongs to; 0 if it is no chunk
60     4 bytes   reserved, 0
====== ========= ==================================================================

Everything is checked before a receiver allocates or views anything: a peer is not trusted.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import NoReturn

from clicooper_hpc.errors import PeerError
from clicooper_hpc.transport.message_kind import Direction, Kind
from clicooper_hpc.transport.wire_dtype import DType

__all__ = [
    "HEADER_BYTES",
    "MAGIC",
    "MAX_DIMS",
    "VERSION",
    "Header",
    "pack_header",
    "pack_header_into",
    "unpack_header",
]

MAGIC = b"CCHM"
VERSION = 1
MAX_DIMS = 6
HEADER_BYTES = 64

_LAYOUT = struct.Struct("<4sBBBBqi6IQQ4s")
# Refused unless zero, so that a later version can give these bytes a meaning.
_RESERVED = bytes(4)
# Built once: a header is packed for every message of every micro-batch.
_PADDING = tuple((0,) * (MAX_DIMS - ndim) for ndim in range(MAX_DIMS + 1))
_KINDS = {int(kind): kind for kind in Kind}
_DTYPES = {int(dtype): dtype for dtype in DType}


@dataclass(frozen=True, slots=True)
class Header:
    """What a message says about itself.

    Parameters
    ----------
    kind, dtype, shape
        Purpose of the message, element type and dimensions of its payload.
    step, micro_batch
        Position in the training; in a blob, ``micro_batch`` is the number of the chunk.
    blob_bytes
        Length of the whole blob this message is a chunk of, 0 otherwise.
    """

    kind: Kind
    dtype: DType
    shape: tuple[int, ...]
    step: int
    micro_batch: int
    blob_bytes: int = 0

    @property
    def payload_bytes(self) -> int:
        """Length of the payload in bytes."""
        return math.prod(self.shape) * self.dtype.itemsize


def pack_header_into(buffer: bytearray | memoryview, header: Header) -> None:
    """Write ``header`` into the first 64 bytes of ``buffer``.

    Raises
    ------
    ValueError
        If a field does not fit the layout.
    """
    ndim = len(header.shape)
    if ndim > MAX_DIMS:
        raise ValueError(f"{ndim} dimensions; a message has at most {MAX_DIMS}")
    if header.step < 0 or header.micro_batch < 0:
        raise ValueError(f"step {header.step}, micro-batch {header.micro_batch}: below 0")
    try:
        _LAYOUT.pack_into(
            buffer,
            0,
            MAGIC,
            VERSION,
            header.kind,
            header.dtype,
            ndim,
            header.step,
            header.micro_batch,
            *header.shape,
            *_PADDING[ndim],
            header.payload_bytes,
            header.blob_bytes,
            _RESERVED,
        )
    # struct checks the ranges (int64 step, uint32 dimensions) on the way, at no cost.
    except struct.error as error:
        raise ValueError(f"{header} does not fit the message header: {error}") from None


def pack_header(header: Header) -> bytes:
    """Return ``header`` as 64 bytes; see `pack_header_into`."""
    raw = bytearray(HEADER_BYTES)
    pack_header_into(raw, header)
    return bytes(raw)


def unpack_header(
    raw: bytes | bytearray | memoryview,
    *,
    capacity_bytes: int,
    peer: int,
    direction: Direction,
) -> Header:
    """Read and check the first 64 bytes of a message.

    Parameters
    ----------
    raw
        The message, or at least its first 64 bytes.
    capacity_bytes
        The longest payload the receiver has room for.
    peer, direction
        Whose message it is, for the error.

    Raises
    ------
    PeerError
        Naming peer, direction and the field, if the header is not one `pack_header` could have
        written or announces more than ``capacity_bytes``.
    """

    def refuse(field: str, problem: str) -> NoReturn:
        raise PeerError(
            f"header field '{field}' {problem}",
            where=f"message from rank {peer} ({direction})",
            remedy=f"Run one clicooper_hpc version on all ranks; else rank {peer} is at fault",
        )

    # MPI delivers what the peer sent, be it 3 bytes; struct would raise an error of its own.
    if len(raw) < HEADER_BYTES:
        refuse("magic", f"is missing: {len(raw)} bytes came, a header has {HEADER_BYTES}")
    (magic, version, kind_code, dtype_code, ndim, step, micro_batch, *rest) = _LAYOUT.unpack_from(
        raw
    )
    dims, (payload_bytes, blob_bytes, reserved) = rest[:MAX_DIMS], rest[MAX_DIMS:]
    if magic != MAGIC:
        refuse("magic", f"is {magic!r} instead of {MAGIC!r}")
    if version != VERSION:
        refuse("version", f"is {version}, this rank speaks {VERSION}")
    kind = _KINDS.get(kind_code)
    if kind is None:
        refuse("kind", f"is {kind_code}, which no message has")
    dtype = _DTYPES.get(dtype_code)
    if dtype is None:
        refuse("dtype", f"is {dtype_code}, which no message has")
    if ndim > MAX_DIMS:
        refuse("number of dimensions", f"is {ndim}, at most {MAX_DIMS} are allowed")
    # One header has one encoding: the digests of both ends cover these bytes.
    if any(dims[ndim:]):
        refuse("shape", f"{dims} has more entries than its {ndim} dimensions")
    if step < 0:
        refuse("step", f"is {step}")
    if micro_batch < 0:
        refuse("micro-batch", f"is {micro_batch}")
    header = Header(kind, dtype, tuple(dims[:ndim]), step, micro_batch, blob_bytes)
    # The length is said twice: a shape that does not fill the payload would show old slot content.
    if payload_bytes != header.payload_bytes:
        refuse(
            "payload bytes",
            f"is {payload_bytes}, but shape {list(header.shape)} of {dtype.name.lower()} "
            f"has {header.payload_bytes}",
        )
    # Before anything is viewed: dimensions of a liar may multiply to more than there is.
    if payload_bytes > capacity_bytes:
        refuse("payload bytes", f"is {payload_bytes}, more than the agreed {capacity_bytes}")
    if blob_bytes and payload_bytes > blob_bytes:
        refuse("blob bytes", f"is {blob_bytes}, less than this chunk's {payload_bytes}")
    if reserved != _RESERVED:
        refuse("reserved", "is not zero")
    return header
