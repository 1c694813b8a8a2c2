"""The owner's master key, and the keys derived from it.

One 32-byte secret from the operating system feeds all secret randomness of a run: noise,
randomised response, label map, receipts. Each use has its own key, HKDF-SHA256 (RFC 5869) of the
master key and an info text that names the use and what it is bound to, so no two uses share bits.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Final, Literal

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from clicooper_hpc.digests import digest_bytes

__all__ = ["INSECURE", "SECURE", "MasterKey", "RngMode"]

RngMode = Literal["secure", "reproducible-INSECURE"]
SECURE: Final = "secure"
INSECURE: Final = "reproducible-INSECURE"

_KEY_BYTES = 32
_MARKS: dict[RngMode, bytes] = {SECURE: b"clicooper master key 1 secure\n", INSECURE: b"INSECURE\n"}


@dataclass(frozen=True, slots=True)
class MasterKey:
    """The secret all others are derived from. Never printed.

    Parameters
    ----------
    secret
        32 bytes.
    mode
        ``"reproducible-INSECURE"`` for a key made from a seed: whoever guesses the seed removes
        the noise. For tests; every output says so.
    """

    secret: bytes = field(repr=False)
    mode: RngMode = SECURE

    def __post_init__(self) -> None:
        if len(self.secret) != _KEY_BYTES:
            raise ValueError(f"a master key has {_KEY_BYTES} bytes, not {len(self.secret)}")
        if self.mode not in _MARKS:
            raise ValueError(f"unknown rng mode {self.mode!r}")

    @classmethod
    def generate(cls) -> MasterKey:
        """Draw a key from the operating system."""
        return cls(os.urandom(_KEY_BYTES))

    @classmethod
    def from_seed(cls, seed: int) -> MasterKey:
        """Make the INSECURE key of a seed; the same on every machine."""
        content = str(int(seed)).encode("ascii")
        return cls(digest_bytes("clicooper/v1/insecure-seed", content).value, INSECURE)

    def derive_key(self, use: str, binding: bytes = b"") -> bytes:
        """Return the 32-byte key of one use, bound to ``binding``."""
        # A zero byte ends the use: no use and binding read like another use.
        info = b"clicooper/v1/" + use.encode("ascii") + b"\x00" + binding
        # No salt is needed: the master key is uniform already.
        return HKDF(SHA256(), _KEY_BYTES, salt=None, info=info).derive(self.secret)

    def to_private_bytes(self) -> bytes:
        """Return the key for the owner's private folder, marked with its mode."""
        # The mode is stored with the key: a restart must not take a seeded key for a secure one.
        return _MARKS[self.mode] + self.secret

    @classmethod
    def from_private_bytes(cls, stored: bytes) -> MasterKey:
        """Read `to_private_bytes`."""
        for mode, mark in _MARKS.items():
            if stored.startswith(mark) and len(stored) == len(mark) + _KEY_BYTES:
                return cls(stored[len(mark) :], mode)
        raise ValueError("these bytes are not a master key")
