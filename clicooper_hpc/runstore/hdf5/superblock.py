"""The superblock of an HDF5 file, versions 2 and 3: its flags say whether it is being written.

Layout: HDF5 file format specification, section II.A: signature, version, size of offsets, size of
lengths, consistency flags, base address, extension address, end of file, root address, checksum.
"""

from __future__ import annotations

import struct

__all__ = [
    "SUPERBLOCK_BYTES",
    "closed_superblock",
    "is_superblock_live",
    "is_superblock_sound",
    "superblock_checksum",
]

_FIELDS = struct.Struct("<8s4B4Q")
_SUM = struct.Struct("<I")
_SIGNATURE = b"\x89HDF\r\n\x1a\n"
# Bit 0: open for writing; bit 2: in SWMR mode. A kill leaves both set.
_OPEN_FOR_WRITING = 0b101

SUPERBLOCK_BYTES = _FIELDS.size + _SUM.size


def is_superblock_live(head: bytes) -> bool:
    """Tell whether a file that begins with ``head`` is marked as open for writing."""
    if len(head) < SUPERBLOCK_BYTES:
        return False
    signature, version, _, _, flags, *_ = _FIELDS.unpack_from(head)
    # Only version 3 has the flags; a file of version 2 opens in any state.
    return bool(signature == _SIGNATURE and version == 3 and flags & _OPEN_FOR_WRITING)


def is_superblock_sound(head: bytes) -> bool:
    """Tell whether the checksum of the superblock ``head`` is right."""
    (stored,) = _SUM.unpack_from(head, _FIELDS.size)
    return superblock_checksum(head[: _FIELDS.size]) == int(stored)


def closed_superblock(head: bytes, end: int | None = None) -> bytes:
    """Return the superblock ``head`` as that of a closed file, which ends at ``end`` if given."""
    fields = list(_FIELDS.unpack_from(head))
    fields[4] = 0
    fields[7] = fields[7] if end is None else end
    front = _FIELDS.pack(*fields)
    # Readers refuse a superblock whose checksum is not of these very bytes.
    return front + _SUM.pack(superblock_checksum(front))


def superblock_checksum(data: bytes) -> int:
    """Return HDF5's metadata checksum of ``data``: Jenkins' lookup3 ``hashlittle``, seed 0.

    ``data`` must not be empty. Source: B. Jenkins, lookup3.c, May 2006.
    """
    mask = 0xFFFFFFFF

    def turn(value: int, by: int) -> int:
        return ((value << by) | (value >> (32 - by))) & mask

    a = b = c = (0xDEADBEEF + len(data)) & mask
    padded = data + bytes(-len(data) % 12)
    # Padded with zeros, which add nothing where the last word is incomplete.
    words = struct.unpack(f"<{len(padded) // 4}I", padded)
    for place in range(0, len(words), 3):
        a = (a + words[place]) & mask
        b = (b + words[place + 1]) & mask
        c = (c + words[place + 2]) & mask
        # The last 12 bytes are not mixed here but by the final rounds below.
        if place + 3 < len(words):
            a = ((a - c) & mask) ^ turn(c, 4)
            c = (c + b) & mask
            b = ((b - a) & mask) ^ turn(a, 6)
            a = (a + c) & mask
            c = ((c - b) & mask) ^ turn(b, 8)
            b = (b + a) & mask
            a = ((a - c) & mask) ^ turn(c, 16)
            c = (c + b) & mask
            b = ((b - a) & mask) ^ turn(a, 19)
            a = (a + c) & mask
            c = ((c - b) & mask) ^ turn(b, 4)
            b = (b + a) & mask
    c = ((c ^ b) - turn(b, 14)) & mask
    a = ((a ^ c) - turn(c, 11)) & mask
    b = ((b ^ a) - turn(a, 25)) & mask
    c = ((c ^ b) - turn(b, 16)) & mask
    a = ((a ^ c) - turn(c, 4)) & mask
    b = ((b ^ a) - turn(a, 14)) & mask
    return ((c ^ b) - turn(b, 24)) & mask
