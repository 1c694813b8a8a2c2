"""Merkle trees of RFC 9162 (Certificate Transparency 2.0), section 2.1, over SHA-256.

A leaf is ``SHA256(0x00 || content)``, a node ``SHA256(0x01 || left || right)``; the left subtree
of n leaves has the largest power of two below n. An inclusion proof shows that a leaf stands at an
index, a consistency proof that an older tree is the beginning of a newer one.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from typing import Final

from clicooper_hpc.errors import EvidenceError

__all__ = [
    "EMPTY_ROOT",
    "MerkleDigest",
    "MerkleTree",
    "merkle_consistency_proof",
    "merkle_inclusion_proof",
    "merkle_leaf_hash",
    "merkle_root",
    "verify_merkle_consistency",
    "verify_merkle_inclusion",
]

EMPTY_ROOT: Final = hashlib.sha256(b"").digest()

_BYTES = hashlib.sha256().digest_size


class MerkleTree:
    """A tree that only grows. Appending costs O(1) hashes amortised, any root O(log n).

    Parameters
    ----------
    leaves
        Leaf hashes to begin with.
    """

    __slots__ = ("_levels",)

    def __init__(self, leaves: Sequence[bytes] = ()) -> None:
        # _levels[k][j] is the root of the leaves j * 2**k up to (j + 1) * 2**k.
        self._levels: list[list[bytes]] = [[]]
        for leaf in leaves:
            self._push(leaf)

    @property
    def size(self) -> int:
        """Number of leaves."""
        return len(self._levels[0])

    @property
    def leaves(self) -> tuple[bytes, ...]:
        """The leaf hashes, in order."""
        return tuple(self._levels[0])

    def append(self, content: bytes) -> int:
        """Append an entry and return its index."""
        self._push(merkle_leaf_hash(content))
        return self.size - 1

    def root(self) -> bytes:
        """Root of the whole tree (32 bytes)."""
        return self.root_at(self.size)

    def root_at(self, size: int) -> bytes:
        """Root the tree had when it had ``size`` leaves."""
        if not 0 <= size <= self.size:
            raise ValueError(f"a tree of {self.size} leaves never had {size}")
        return self._range(0, size) if size else EMPTY_ROOT

    def inclusion_proof(self, index: int, size: int) -> list[bytes]:
        """Proof that leaf ``index`` is in the tree of the first ``size`` leaves (2.1.3.1)."""
        if not 0 <= index < size <= self.size:
            raise ValueError(f"no leaf {index} among the first {size} of {self.size}")
        proof: list[bytes] = []
        start, end = 0, size
        while end - start > 1:
            middle = start + _merkle_split(end - start)
            if index < middle:
                proof.append(self._range(middle, end))
                end = middle
            else:
                proof.append(self._range(start, middle))
                start = middle
        return proof[::-1]

    def consistency_proof(self, old_size: int) -> list[bytes]:
        """Proof that the first ``old_size`` leaves are where they were (2.1.4.1)."""
        if not 0 <= old_size <= self.size:
            raise ValueError(f"a tree of {self.size} leaves never had {old_size}")
        # RFC 9162 has no nodes to show here: the verifier knows both roots.
        if old_size in (0, self.size):
            return []
        proof: list[bytes] = []
        start, end = 0, self.size
        while end != old_size:
            middle = start + _merkle_split(end - start)
            if old_size <= middle:
                proof.append(self._range(middle, end))
                end = middle
            else:
                proof.append(self._range(start, middle))
                start = middle
        # The old root itself is known to the verifier: only a part of it has to be sent.
        if start > 0:
            proof.append(self._range(start, end))
        return proof[::-1]

    def _push(self, leaf: bytes) -> None:
        self._levels[0].append(leaf)
        level = 0
        # Only full subtrees are kept: what is incomplete changes with every leaf.
        while len(self._levels[level]) % 2 == 0:
            if level + 1 == len(self._levels):
                self._levels.append([])
            self._levels[level + 1].append(_merkle_node(*self._levels[level][-2:]))
            level += 1

    def _range(self, start: int, end: int) -> bytes:
        """Root of leaves [start, end), a subtree of some tree: start is aligned to its size."""
        root: bytes | None = None
        size = end - start
        # From the smallest full subtree at the right end to the largest at the left.
        while size:
            level = (size & -size).bit_length() - 1
            part = self._levels[level][((start + size) >> level) - 1]
            root = part if root is None else _merkle_node(part, root)
            size &= size - 1
        return EMPTY_ROOT if root is None else root


class MerkleDigest:
    """Root of leaves that come one by one and are not kept: O(log n) memory."""

    __slots__ = ("_peaks", "size")

    def __init__(self) -> None:
        self.size = 0
        # Roots of the full subtrees, one per set bit of the size, the largest first.
        self._peaks: list[bytes] = []

    def append(self, leaf: bytes) -> None:
        """Append a leaf hash."""
        self.size += 1
        node, bits = leaf, self.size
        while bits % 2 == 0:
            node = _merkle_node(self._peaks.pop(), node)
            bits //= 2
        self._peaks.append(node)

    def root(self) -> bytes:
        """Root of all leaves so far."""
        if not self._peaks:
            return EMPTY_ROOT
        root = self._peaks[-1]
        for peak in reversed(self._peaks[:-1]):
            root = _merkle_node(peak, root)
        return root


def merkle_leaf_hash(content: bytes | memoryview) -> bytes:
    """Hash of one entry: SHA256(0x00 || content)."""
    state = hashlib.sha256(b"\x00")
    state.update(content)
    return state.digest()


def merkle_root(leaves: Sequence[bytes]) -> bytes:
    """Root over leaf hashes; SHA256 of nothing for none."""
    return MerkleTree(leaves).root()


def merkle_inclusion_proof(leaves: Sequence[bytes], index: int) -> list[bytes]:
    """Proof that leaf hash ``index`` is in the tree of all ``leaves``."""
    return MerkleTree(leaves).inclusion_proof(index, len(leaves))


def merkle_consistency_proof(leaves: Sequence[bytes], old_size: int) -> list[bytes]:
    """Proof that the tree of the first ``old_size`` leaves is the beginning of that of all."""
    return MerkleTree(leaves).consistency_proof(old_size)


def verify_merkle_inclusion(
    leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes
) -> None:
    """Check an inclusion proof (RFC 9162, 2.1.3.2).

    Parameters
    ----------
    leaf, root
        Leaf hash and the root of the tree, 32 bytes each.
    index, size
        Place of the leaf, and number of leaves of the tree.
    proof
        Hashes of `merkle_inclusion_proof`.

    Raises
    ------
    EvidenceError
        The leaf is not shown to stand there.
    """
    what = f"the inclusion proof of entry {index} in a ledger of {size}"
    if not 0 <= index < size:
        raise EvidenceError(f"{what} names an entry beyond the end")
    _check_hashes(what, leaf, root, *proof)
    position, last, computed = index, size - 1, leaf
    for sibling in proof:
        if last == 0:
            raise EvidenceError(f"{what} is longer than the tree is high")
        if position & 1 or position == last:
            computed = _merkle_node(sibling, computed)
            while not position & 1 and position:
                position, last = position >> 1, last >> 1
        else:
            computed = _merkle_node(computed, sibling)
        position, last = position >> 1, last >> 1
    if last:
        raise EvidenceError(f"{what} is shorter than the tree is high")
    if not hmac.compare_digest(computed, root):
        raise EvidenceError(f"{what} leads to another root")


def verify_merkle_consistency(
    old_size: int, old_root: bytes, new_size: int, new_root: bytes, proof: Sequence[bytes]
) -> None:
    """Check a consistency proof (RFC 9162, 2.1.4.2).

    Raises
    ------
    EvidenceError
        The newer tree is not shown to continue the older one.
    """
    what = f"the consistency proof from ledger size {old_size} to {new_size}"
    _check_hashes(what, old_root, new_root, *proof)
    if not 0 <= old_size <= new_size:
        raise EvidenceError(f"{what} is about a ledger that shrank")
    if old_size in (0, new_size):
        expected = new_root if old_size else EMPTY_ROOT
        if proof or old_root != expected or (new_size == 0 and new_root != EMPTY_ROOT):
            raise EvidenceError(f"{what} leads to another root")
        return
    # A full old tree is a subtree of the new one: its root is the first element, left out.
    path = [old_root, *proof] if old_size & (old_size - 1) == 0 else list(proof)
    if not proof:
        raise EvidenceError(f"{what} is empty")
    position, last = old_size - 1, new_size - 1
    while position & 1:
        position, last = position >> 1, last >> 1
    old_computed = new_computed = path[0]
    for sibling in path[1:]:
        if last == 0:
            raise EvidenceError(f"{what} is longer than the tree is high")
        if position & 1 or position == last:
            old_computed = _merkle_node(sibling, old_computed)
            new_computed = _merkle_node(sibling, new_computed)
            while not position & 1 and position:
                position, last = position >> 1, last >> 1
        else:
            new_computed = _merkle_node(new_computed, sibling)
        position, last = position >> 1, last >> 1
    if last:
        raise EvidenceError(f"{what} is shorter than the tree is high")
    if old_computed != old_root or new_computed != new_root:
        raise EvidenceError(f"{what} leads to another root")


def _merkle_node(left: bytes, right: bytes) -> bytes:
    # Another first byte than a leaf: a node can never pass for an entry.
    return hashlib.sha256(b"\x01" + left + right).digest()


def _merkle_split(size: int) -> int:
    """Largest power of two below ``size`` (>= 2)."""
    return 1 << ((size - 1).bit_length() - 1)


def _check_hashes(what: str, *hashes: bytes) -> None:
    # A node of another length could be split elsewhere and still hash alike.
    if any(len(value) != _BYTES for value in hashes):
        raise EvidenceError(f"{what} has a hash that is not {_BYTES} bytes long")
