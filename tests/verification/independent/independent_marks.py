"""Reading an opened mark in a delivered segment, from docs/provenance.md ("Marks") alone."""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from independent_formats import PREFIX, MismatchError, is_hex, read_canonical
from independent_ledger import Ledger, need

NUMPY_TYPES = {"F32": "<f4", "F64": "<f8", "F16": "<f2"}


@dataclass(frozen=True)
class Reading:
    """Wrong bits, statistic T, and the base-2 logarithm of the bound of p for one reading."""

    errors: int
    statistic: float
    log2_p: float


def read_mark(
    opening: bytes, ledger: Ledger, tensors: Mapping[str, tuple[str, list[int], bytes]]
) -> Reading:
    """Read the mark of an opened key; `MismatchError` if the key is not the one enrolled."""
    said = read_canonical(opening)
    need(set(said) == {"format", "key", "proof", "run_id", "segment", "stage"}, "other fields")
    need(said["format"] == "clicooper-mark-opening/v1", "another format")
    need(said["run_id"] == ledger.statement["run_id"], "a key of another run")
    key, segment, stage = bytes.fromhex(said["key"]), said["segment"], said["stage"]
    need(1 <= segment <= ledger.segments and 0 <= stage < ledger.stages, "no such stage")
    plan = ledger.entries[segment][1].predicate["mark"]
    content = bytes.fromhex(said["run_id"]) + struct.pack(">II", segment, stage) + key
    leaf = hashlib.sha256(PREFIX + b"mark-leaf\x00" + content).digest()
    need(all(map(is_hex, said["proof"])), "a proof that is none")
    path = [bytes.fromhex(one) for one in said["proof"]]
    found = root_of_inclusion(leaf, stage, ledger.stages, path)
    need(found.hex() == plan["root"], "not the key enrolled for this stage")
    proof = ledger.at("stage", stage, segment)
    if proof is None:
        raise MismatchError("the stage is not proved")
    chain = bytes.fromhex(proof.predicate["mark"]["chain"])
    seed = hashlib.sha512(PREFIX + b"mark-seed\x00" + key + chain).digest()
    return _read(seed, plan, tensors)


def root_of_inclusion(entry: bytes, index: int, size: int, path: list[bytes]) -> bytes:
    """Root that an RFC 9162 inclusion proof leads to (section 2.1.3.2)."""
    node, left, last = hashlib.sha256(b"\x00" + entry).digest(), index, size - 1
    for step in path:
        need(last > 0, "a proof that is too long")
        if left & 1 or left == last:
            node = hashlib.sha256(b"\x01" + step + node).digest()
            while not left & 1 and left:
                left, last = left >> 1, last >> 1
        else:
            node = hashlib.sha256(b"\x01" + node + step).digest()
        left, last = left >> 1, last >> 1
    need(last == 0, "a proof that is too short")
    return node


def _stream(key: bytes, size: int) -> bytes:
    encryptor = Cipher(algorithms.ChaCha20(key, bytes(16)), mode=None).encryptor()
    return encryptor.update(bytes(size))


def _carriers(key: bytes, wanted: int, places: int) -> list[int]:
    limit = 2**64 // places * places
    seen: dict[int, None] = {}
    size = 16 * wanted
    while True:
        seen.clear()
        for word in np.frombuffer(_stream(key, size), "<u8").tolist():
            if word < limit:
                seen.setdefault(word % places)
            if len(seen) == wanted:
                return list(seen)
        # Not enough: the same stream, further.
        size *= 2


def _values(tensors: Mapping[str, tuple[str, list[int], bytes]], names: list[str]) -> Any:
    """Weights of even input columns over the size of their output channel, end to end."""
    parts = []
    for name in names:
        dtype, shape, data = tensors[name]
        weights = np.frombuffer(data, NUMPY_TYPES[dtype]).reshape(shape).astype("f8")
        odd = weights[:, 1::2].reshape(shape[0], -1)
        size = np.sqrt((odd**2).mean(axis=1)).reshape(-1, *[1] * (len(shape) - 1))
        even = weights[:, ::2]
        parts.append(np.divide(even, size, out=np.zeros_like(even), where=size != 0).ravel())
    return np.concatenate(parts)


def _read(
    seed: bytes, plan: dict[str, Any], tensors: Mapping[str, tuple[str, list[int], bytes]]
) -> Reading:
    bits, each = plan["bits"], plan["weights_per_bit"]
    values = _values(tensors, plan["eligible"])
    carriers = _carriers(seed[:32], bits * each, len(values))
    raw = np.frombuffer(_stream(seed[32:], -(-bits * each // 8)), "u1")
    signs = 2.0 * np.unpackbits(raw, bitorder="little")[: bits * each] - 1
    chosen = values[carriers]
    sums = (signs * chosen).reshape(bits, each).sum(axis=1)
    errors = int((sums <= 0).sum())
    statistic = float(sums.sum() / np.linalg.norm(chosen)) if chosen.any() else 0.0
    tail = sum(math.comb(bits, k) for k in range(errors + 1))
    binomial = math.log2(tail) - bits
    hoeffding = -(statistic**2) / 2 / math.log(2) if statistic > 0 else 0.0
    return Reading(errors, statistic, min(0.0, 1 + min(binomial, hoeffding)))
