"""`Digest`: SHA-256 with a tag per kind of content, so that no digest can stand for another kind.

Rule: ``SHA256(ascii tag || 0x00 || content)``. Values are frozen; they are compared as values and
printed as lower-case hex.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["Digest", "digest_bytes", "digest_chunks"]


@dataclass(frozen=True, slots=True)
class Digest:
    """A tagged SHA-256 value (32 bytes)."""

    tag: str
    value: bytes

    def __post_init__(self) -> None:
        if len(self.value) != hashlib.sha256().digest_size:
            raise ValueError(f"a SHA-256 value has 32 bytes, not {len(self.value)}")

    @property
    def hex(self) -> str:
        """The value as 64 lower-case hexadecimal digits."""
        return self.value.hex()

    def __str__(self) -> str:
        return f"{self.tag}:{self.hex}"


def digest_chunks(tag: str, chunks: Iterable[bytes | bytearray | memoryview]) -> Digest:
    """Digest the concatenation of ``chunks`` under ``tag`` without joining them in memory."""
    # The zero byte ends the tag: else one tag and its content could be a longer tag with less.
    state = hashlib.sha256(tag.encode("ascii") + b"\x00")
    for chunk in chunks:
        state.update(chunk)
    return Digest(tag, state.digest())


def digest_bytes(tag: str, content: bytes | bytearray | memoryview) -> Digest:
    """Digest ``content`` under ``tag``."""
    return digest_chunks(tag, (content,))
