"""The rules of docs/provenance.md once more, with the standard library and `cryptography` only."""

from __future__ import annotations

import hashlib
import hmac
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20
from make_vectors import FILE

PACKAGE = Path(__file__).parents[2] / "clicooper_hpc"
VECTORS: dict[str, Any] = json.loads(FILE.read_text(encoding="ascii"))
LEDGER, MARK = VECTORS["ledger"], VECTORS["mark"]
ENTRIES: list[dict[str, Any]] = LEDGER["entries"]
STATEMENTS = {one["kind"]: json.loads(one["payload"]) for one in ENTRIES}


# --- The rules, once more ------------------------------------------------------------------------


def sha256(*parts: bytes) -> bytes:
    return hashlib.sha256(b"".join(parts)).digest()


def tagged(name: str, *parts: bytes) -> str:
    return sha256(f"clicooper/v1/{name}".encode(), b"\x00", *parts).hex()


def canonical(value: object) -> bytes:
    # Within the subset (ASCII keys, no floats) this is RFC 8785.
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def tree(leaves: list[bytes]) -> bytes:
    if len(leaves) < 2:
        return leaves[0] if leaves else sha256()
    middle = 1
    while 2 * middle < len(leaves):
        middle *= 2
    return sha256(b"\x01", tree(leaves[:middle]), tree(leaves[middle:]))


def leaf(content: bytes) -> bytes:
    return sha256(b"\x00", content)


def hkdf(secret: bytes, info: bytes) -> bytes:
    """RFC 5869 with SHA-256, no salt, 32 bytes."""
    prk = hmac.new(bytes(32), secret, hashlib.sha256).digest()
    return hmac.new(prk, info + b"\x01", hashlib.sha256).digest()


def stream(key: bytes) -> Callable[[int], bytes]:
    encryptor = Cipher(ChaCha20(key, bytes(16)), mode=None).encryptor()
    return lambda count: encryptor.update(bytes(count))


def below(limit: int, read: Callable[[int], bytes]) -> int:
    while True:
        word = int.from_bytes(read(8), "little")
        if word < 2**64 - 2**64 % limit:
            return word % limit


def tensors_digest(tensors: dict[str, tuple[str, list[int], bytes]]) -> str:
    leaves = []
    for name in sorted(tensors):
        dtype, shape, content = tensors[name]
        pieces = [content[at : at + 2**20] for at in range(0, len(content), 2**20)]
        chunks = tree([leaf(piece) for piece in pieces]).hex()
        value = {"chunks": chunks, "dtype": dtype, "name": name, "shape": shape}
        leaves.append(leaf(canonical(value)))
    return tagged("tensors", struct.pack(">Q", len(leaves)), tree(leaves))


def safetensors(content: bytes) -> dict[str, tuple[str, list[int], bytes]]:
    length = int.from_bytes(content[:8], "little")
    header, data = json.loads(content[8 : 8 + length]), content[8 + length :]
    return {
        name: (one["dtype"], one["shape"], data[slice(*one["data_offsets"])])
        for name, one in header.items()
    }
