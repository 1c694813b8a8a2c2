"""Receipts of released samples: keyed hashes, so that only the same bytes can leave again.

The noise of a sample never changes, so two releases that differ show the difference of the clean
rows. That happens without ill will: a front that is not deterministic on a GPU, other data behind
the same ids, a changed label. The owner keeps a keyed hash of what it sent of every sample and
refuses anything else.
"""

from __future__ import annotations

import hashlib
import hmac

import numpy as np
from numpy.typing import NDArray

from clicooper_hpc.errors import BudgetExceededError

__all__ = ["ReleaseChangedError", "ReleaseReceipts"]

_HASH_BYTES = 16
_MAGIC = b"clicooper receipts 1\n"


class ReleaseChangedError(BudgetExceededError):
    """A sample that was released would leave a second time with other bytes."""


class ReleaseReceipts:
    """Keyed BLAKE2b hashes of the released samples of one split.

    Parameters
    ----------
    samples
        Number of samples in the split.
    key
        32 bytes, ``MasterKey.derive_key("receipts", context digest)``. Never printed.
    """

    __slots__ = ("_hashes", "_key", "_known")

    def __init__(self, samples: int, key: bytes) -> None:
        if samples < 0 or len(key) != 32:
            raise ValueError("receipts need a number of samples and a 32-byte key")
        self._key = key
        self._hashes = np.zeros((samples, _HASH_BYTES), dtype=np.uint8)
        self._known = np.zeros(samples, dtype=np.bool_)

    def __repr__(self) -> str:
        return f"ReleaseReceipts({self.released} of {len(self._known)} samples released)"

    @property
    def released(self) -> int:
        """Number of samples released so far."""
        return int(np.count_nonzero(self._known))

    def count_without_receipt(self, ids: NDArray[np.int64]) -> int:
        """Return how many of the samples were never released; what a send would be charged."""
        return int(np.count_nonzero(~self._known[np.unique(self._in_range(ids))]))

    def add_receipts(
        self,
        ids: NDArray[np.int64],
        rows: NDArray[np.float32],
        sub_labels: NDArray[np.int32] | None,
    ) -> int:
        """Check a batch against what was sent, then note it.

        Parameters
        ----------
        ids
            int64 [n].
        rows
            float32 [n, ...], as released.
        sub_labels
            int32 [n], or None if the rows leave without labels.

        Returns
        -------
        int
            Samples of the batch never released before.

        Raises
        ------
        ReleaseChangedError
            When a sample's bytes differ from those sent before. Nothing is noted then.
        """
        # Everything is compared before anything is noted: a refused batch leaves no trace.
        hashes = self._hash(self._in_range(ids), rows, sub_labels)
        seen = self._known[ids]
        changed = seen & np.any(hashes != self._hashes[ids], axis=1)
        # An id may stand twice in one batch before it is known: then both rows must be equal.
        _, first, place = np.unique(ids, return_index=True, return_inverse=True)
        changed |= np.any(hashes != hashes[first[place]], axis=1)
        if changed.any():
            raise ReleaseChangedError(
                f"{int(changed.sum())} samples would be sent with other bytes than before; "
                "the difference would show their clean rows",
                where=f"sample {int(ids[np.argmax(changed)])}",
                remedy="Nothing was sent. Make the front deterministic (device, threads, dtype) "
                "and leave data and labels as they were. A new run is a second release.",
            )
        new = int(np.count_nonzero(~seen[first]))
        self._hashes[ids] = hashes
        self._known[ids] = True
        return new

    def to_bytes(self) -> bytes:
        """Return the state for the owner's private folder, sealed with the key."""
        count = len(self._known).to_bytes(8, "little")
        body = _MAGIC + count + np.packbits(self._known).tobytes() + self._hashes.tobytes()
        return body + self._seal(body)

    @classmethod
    def from_bytes(cls, stored: bytes, key: bytes) -> ReleaseReceipts:
        """Read `to_bytes`; ``ValueError`` if a bit changed or the key is another."""
        body, seal = stored[:-_HASH_BYTES], stored[-_HASH_BYTES:]
        receipts = cls(0, key)
        # Receipts of another key would refuse nothing, so another key is refused here.
        if not body.startswith(_MAGIC) or not hmac.compare_digest(seal, receipts._seal(body)):
            raise ValueError("these bytes are not the release receipts of this key")
        start = len(_MAGIC) + 8
        samples = int.from_bytes(body[len(_MAGIC) : start], "little")
        flags = start + (samples + 7) // 8
        # Before anything is unpacked: the number may be any of 64 bits.
        if len(body) != flags + samples * _HASH_BYTES:
            raise ValueError("these release receipts have another length than their number needs")
        packed = np.frombuffer(body[start:flags], dtype=np.uint8)
        receipts._known = np.unpackbits(packed, count=samples).astype(np.bool_)
        hashes = np.frombuffer(body[flags:], dtype=np.uint8)
        receipts._hashes = hashes.reshape(samples, _HASH_BYTES).copy()
        return receipts

    def _in_range(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        if ids.ndim != 1 or (
            ids.size and not 0 <= int(ids.min()) <= int(ids.max()) < len(self._known)
        ):
            raise ValueError(f"sample ids must lie in [0, {len(self._known)})")
        return ids

    def _hash(
        self,
        ids: NDArray[np.int64],
        rows: NDArray[np.float32],
        sub_labels: NDArray[np.int32] | None,
    ) -> NDArray[np.uint8]:
        if len(rows) != ids.size or (sub_labels is not None and sub_labels.shape != ids.shape):
            raise ValueError("ids, rows and sub-labels of one batch must be equally many")
        if rows.dtype != np.float32 or (sub_labels is not None and sub_labels.dtype != np.int32):
            raise ValueError("released rows are float32 and sub-labels int32")
        contiguous = np.ascontiguousarray(rows)
        # A row with a label and the same row without one are two releases.
        labels = [b"no label"] * ids.size
        if sub_labels is not None:
            labels = [int(y).to_bytes(4, "little", signed=True) for y in sub_labels]
        hashes = bytearray()
        for sample, label, row in zip(ids.tolist(), labels, contiguous, strict=True):
            state = hashlib.blake2b(key=self._key, digest_size=_HASH_BYTES, person=b"release")
            state.update(sample.to_bytes(8, "little") + len(label).to_bytes(1, "little") + label)
            state.update(row.data)
            hashes += state.digest()
        return np.frombuffer(bytes(hashes), dtype=np.uint8).reshape(ids.size, _HASH_BYTES)

    def _seal(self, body: bytes) -> bytes:
        seal = hashlib.blake2b(body, key=self._key, digest_size=_HASH_BYTES, person=b"seal")
        return seal.digest()
