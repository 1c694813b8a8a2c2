"""Random 64-bit words addressed by sample id: ChaCha20 as a random-access table.

A stream is one key. The words of a sample are the ChaCha20 key stream (RFC 8439 layout: 32-bit
block counter, then 96-bit nonce) with the sample id in the nonce and the counter from 0, so the
words of any sample can be had again, in any order, and are stored nowhere.

::

    16-byte ChaCha20 input:  counter (4, little-endian) | page (4 ASCII bytes) | sample id (8, LE)
    page "base": words 0, 1, 2, ... of the sample
    page "more": 1024 further bytes for each word position, from block 16 * position on
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20
from numpy.typing import NDArray

__all__ = ["KeyedStream", "keyed_rejection_below", "keyed_words_below"]

_WORD = np.dtype("<u8")
_BLOCKS_PER_POSITION = 16
_BASE, _MORE = b"base", b"more"


class KeyedStream:
    """The random words of every sample under one key.

    Parameters
    ----------
    key
        32 bytes, used for nothing else. Never printed.
    """

    __slots__ = ("_key",)

    def __init__(self, key: bytes) -> None:
        if len(key) != 32:
            raise ValueError(f"a stream key has 32 bytes, not {len(key)}")
        self._key = key

    def __repr__(self) -> str:
        return "KeyedStream(key=<secret>)"

    def draw_words(self, ids: NDArray[np.int64], count: int) -> NDArray[np.uint64]:
        """Return the first ``count`` words of each sample: uint64 [n, count].

        Parameters
        ----------
        ids
            int64 [n], each >= 0; any order, repeats allowed.
        count
            Words per sample, at most 2^28.
        """
        if not 0 <= count <= 2**32 // _BLOCKS_PER_POSITION:
            raise ValueError(f"a sample has at most 2^28 words, not {count}")
        if ids.ndim != 1 or (ids.size and int(ids.min()) < 0):
            raise ValueError("sample ids are one row of integers, each at least 0")
        length = _WORD.itemsize * count
        zeros, filled = bytes(length), bytearray(length * ids.size)
        if length:
            view, cipher = memoryview(filled), self._cipher(_nonce(0, _BASE, 0))
            for row, sample in enumerate(ids.tolist()):
                cipher.reset_nonce(_nonce(0, _BASE, sample))
                cipher.update_into(zeros, view[row * length : (row + 1) * length])
        words = np.frombuffer(filled, dtype=_WORD).reshape(ids.size, count)
        return words.astype(np.uint64, copy=False)

    def draw_more_words(self, sample: int, position: int) -> Iterator[int]:
        """Yield the 128 further words that belong to one word position of one sample."""
        # A page of its own, and 16 blocks a position: further words never meet the first ones, or
        # those of another position.
        cipher = self._cipher(_nonce(position * _BLOCKS_PER_POSITION, _MORE, sample))
        for _ in range(_BLOCKS_PER_POSITION * 64 // _WORD.itemsize):
            yield int.from_bytes(cipher.update(bytes(_WORD.itemsize)), "little")

    def _cipher(self, nonce: bytes) -> CipherContext:
        return Cipher(ChaCha20(self._key, nonce), mode=None).encryptor()


def keyed_rejection_below(words: Iterator[int], bound: int) -> int:
    """Return an unbiased integer in [0, bound) from 64-bit words, rejecting the uneven rest."""
    if not 1 <= bound <= 2**64:
        raise ValueError(f"bound must lie in 1..2^64, not {bound}")
    # A plain remainder would favour the small numbers.
    accepted = 2**64 - 2**64 % bound
    return next(word for word in words if word < accepted) % bound


def keyed_words_below(stream: KeyedStream, ids: NDArray[np.int64], bound: int) -> NDArray[np.int64]:
    """Return one unbiased integer in [0, bound) per sample, bound < 2^63: int64 [n]."""
    words = stream.draw_words(ids, 1)[:, 0]
    rest = 2**64 % bound
    drawn = (words % np.uint64(bound)).astype(np.int64)
    # Only words in the uneven rest are drawn again, so nearly every sample takes one word.
    if rest:
        for row in np.flatnonzero(words >= np.uint64(2**64 - rest)).tolist():
            drawn[row] = keyed_rejection_below(stream.draw_more_words(int(ids[row]), 0), bound)
    return drawn


def _nonce(counter: int, page: bytes, sample: int) -> bytes:
    # The sample id is in the nonce, not in the counter: any sample is had again without those
    # before it.
    return counter.to_bytes(4, "little") + page + sample.to_bytes(8, "little")
