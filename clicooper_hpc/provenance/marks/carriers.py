"""Carriers of a mark: which weights, and with which sign; drawn from a 64-byte seed.

The first half of the seed keys a ChaCha20 stream of positions, the second half one of signs (nonce
and counter zero). Positions are little-endian 64-bit words modulo the number P of even-column
weights; words in the uneven rest above the largest multiple of P are skipped, and so is a position
drawn before. A sign is one bit, least significant bit of the first byte first; a set bit is +1.

The rule names nothing of any library, so it can be rewritten from this text and stays readable as
long as ChaCha20 (RFC 8439) is known.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20
from numpy.typing import NDArray

from clicooper_hpc.errors import EvidenceError
from clicooper_hpc.provenance.marks.columns import even_columns_total
from clicooper_hpc.provenance.marks.mark_plan import MarkPlan

__all__ = ["Carriers", "draw_carriers"]

_SEED_BYTES = 64
_WORD = np.dtype("<u8")


@dataclass(frozen=True, slots=True, eq=False)
class Carriers:
    """The weights of one mark.

    Parameters
    ----------
    index
        int64 [bits, r]: numbers into the even columns of the eligible tensors (`columns`), no two
        equal.
    sign
        int8 [bits, r]: -1 or 1.
    shapes
        Shapes of the eligible tensors they were drawn for, in the plan's order.
    """

    index: NDArray[np.int64]
    sign: NDArray[np.int8]
    shapes: tuple[tuple[int, ...], ...]


def draw_carriers(plan: MarkPlan, shapes: Mapping[str, tuple[int, ...]], seed: bytes) -> Carriers:
    """Draw the carriers of one mark.

    Parameters
    ----------
    plan
        Size of the mark.
    shapes
        Shape of each tensor of the segment by name.
    seed
        64 bytes of `mark_keys.mark_key_seed`.

    Raises
    ------
    EvidenceError
        The plan does not fit the segment: a tensor is missing or the weights are too few.
    """
    if len(seed) != _SEED_BYTES:
        raise ValueError(f"a mark seed has {_SEED_BYTES} bytes, not {len(seed)}")
    population = even_columns_total(plan.eligible, shapes)
    count = plan.bits * plan.weights_per_bit
    if count > population:
        raise EvidenceError(
            f"{plan.bits} bits of {plan.weights_per_bit} weights do not fit into {population}",
            where="mark plan",
            remedy="Get an unchanged copy of the enrolment.",
        )
    size = (plan.bits, plan.weights_per_bit)
    return Carriers(
        # Two keys: positions draw an open number of words, signs must not shift with them.
        index=_distinct_carriers(seed[:32], population, count).reshape(size),
        sign=_carrier_signs(seed[32:], count).reshape(size),
        shapes=tuple(tuple(shapes[name]) for name in plan.eligible),
    )


def _distinct_carriers(key: bytes, population: int, count: int) -> NDArray[np.int64]:
    """Return the first ``count`` distinct positions of the key's stream, in order."""
    stream = _Stream(key)
    # Words above the largest multiple are skipped: a remainder alone would favour small ones.
    rest = 2**64 % population
    found = np.empty(0, dtype=np.int64)
    while found.size < count:
        words = stream.words(_words_needed(found.size, count, population))
        if rest:
            words = words[words < np.uint64(2**64 - rest)]
        found = np.concatenate((found, (words % np.uint64(population)).astype(np.int64)))
        # In order of the stream: which positions are kept may not depend on the block size.
        found = _first_of_each(found, population)
    return found[:count]


def _words_needed(have: int, count: int, population: int) -> int:
    """Words after which ``count`` distinct ones are likely: the coupon collector's mean, and more.

    Only the time depends on it: what a stream gives does not depend on how it is cut.
    """
    left = max(population - count, 0.5)
    return math.ceil(population * math.log((population - have) / left) * 1.02) + 64


def _first_of_each(positions: NDArray[np.int64], population: int) -> NDArray[np.int64]:
    """Drop what was there before, in order. Takes no sorting: one table over all positions."""
    order = np.arange(positions.size, dtype=np.int32)
    seen = np.empty(population, np.int32)
    # Of writes to one place NumPy keeps the last: reversed, the first.
    seen[positions[::-1]] = order[::-1]
    new: NDArray[np.int64] = positions[seen[positions] == order]
    return new


def _carrier_signs(key: bytes, count: int) -> NDArray[np.int8]:
    content = np.frombuffer(_Stream(key).bytes(-(-count // 8)), dtype=np.uint8)
    # One fair coin a carrier: on these alone rests the bound of `reading`.
    bits = np.unpackbits(content, count=count, bitorder="little")
    return (2 * bits.astype(np.int8) - 1).astype(np.int8)


class _Stream:
    """A ChaCha20 key stream, read from its beginning."""

    def __init__(self, key: bytes) -> None:
        self._encryptor = Cipher(ChaCha20(key, bytes(16)), mode=None).encryptor()

    def bytes(self, count: int) -> bytes:
        return self._encryptor.update(bytes(count))

    def words(self, count: int) -> NDArray[np.uint64]:
        content = self.bytes(count * _WORD.itemsize)
        return np.frombuffer(content, dtype=_WORD).astype(np.uint64)
