"""Merkle trees against the recursive definitions of RFC 9162 and published test vectors."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clicooper_hpc.errors import EvidenceError
from clicooper_hpc.provenance import merkle
from clicooper_hpc.provenance.merkle import (
    EMPTY_ROOT,
    MerkleDigest,
    MerkleTree,
    merkle_consistency_proof,
    merkle_inclusion_proof,
    merkle_leaf_hash,
    merkle_root,
    verify_merkle_consistency,
    verify_merkle_inclusion,
)

# The entries and roots that implementations of Certificate Transparency share.
ENTRIES = [
    bytes.fromhex(text)
    for text in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]

SIZES = st.integers(1, 70)


def leaves_of(size: int, salt: int = 0) -> list[bytes]:
    return [merkle_leaf_hash(b"%d/%d" % (salt, index)) for index in range(size)]


def split(size: int) -> int:
    power = 1
    while 2 * power < size:
        power *= 2
    return power


def mth(leaves: Sequence[bytes]) -> bytes:
    """Section 2.1.1, on leaf hashes."""
    if not leaves:
        return hashlib.sha256().digest()
    if len(leaves) == 1:
        return leaves[0]
    k = split(len(leaves))
    return hashlib.sha256(b"\x01" + mth(leaves[:k]) + mth(leaves[k:])).digest()


def path(m: int, leaves: Sequence[bytes]) -> list[bytes]:
    """Section 2.1.3.1."""
    if len(leaves) == 1:
        return []
    k = split(len(leaves))
    if m < k:
        return [*path(m, leaves[:k]), mth(leaves[k:])]
    return [*path(m - k, leaves[k:]), mth(leaves[:k])]


def subproof(m: int, leaves: Sequence[bytes], known: bool) -> list[bytes]:
    """Section 2.1.4.1."""
    if m == len(leaves):
        return [] if known else [mth(leaves)]
    k = split(len(leaves))
    if m <= k:
        return [*subproof(m, leaves[:k], known), mth(leaves[k:])]
    return [*subproof(m - k, leaves[k:], False), mth(leaves[:k])]


def altered(value: bytes) -> bytes:
    return bytes([value[0] ^ 1]) + value[1:]


def wrong_proofs(proof: Sequence[bytes]) -> list[list[bytes]]:
    wrong = [[*proof, merkle_leaf_hash(b"more")], [merkle_leaf_hash(b"more"), *proof]]
    for place, value in enumerate(proof):
        before, after = list(proof[:place]), list(proof[place + 1 :])
        wrong += [
            before + after,
            [*before, altered(value), *after],
            [*before, value[:-1], *after],
            [*before, value, value, *after],
        ]
    return wrong


def test_published_roots() -> None:
    tree = MerkleTree()
    assert tree.root() == EMPTY_ROOT == hashlib.sha256().digest() == merkle_root([])
    for index, (entry, root) in enumerate(zip(ENTRIES, ROOTS, strict=True)):
        assert tree.append(entry) == index
        assert tree.root().hex() == root
        assert merkle_root(tree.leaves).hex() == root


def test_published_proofs() -> None:
    leaves = [merkle_leaf_hash(entry) for entry in ENTRIES]
    assert [part.hex() for part in merkle_inclusion_proof(leaves[:3], 2)] == [ROOTS[1]]
    assert [part.hex() for part in merkle_inclusion_proof(leaves, 5)] == [
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        ROOTS[3],
    ]
    assert [part.hex() for part in merkle_consistency_proof(leaves, 6)] == [
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        ROOTS[3],
    ]


def test_a_leaf_is_no_node() -> None:
    left, right = leaves_of(2)
    assert merkle_leaf_hash(left + right) != merkle_root([left, right])


@settings(deadline=None)
@given(SIZES)
def test_roots_are_those_of_the_definition(size: int) -> None:
    leaves = leaves_of(size)
    tree = MerkleTree(leaves)
    assert tree.size == size
    assert tree.leaves == tuple(leaves)
    for smaller in range(size + 1):
        assert tree.root_at(smaller) == mth(leaves[:smaller])


@settings(deadline=None)
@given(SIZES, st.data())
def test_inclusion_proofs_are_those_of_the_definition(size: int, data: st.DataObject) -> None:
    leaves = leaves_of(size)
    index = data.draw(st.integers(0, size - 1))
    proof = merkle_inclusion_proof(leaves, index)
    assert proof == path(index, leaves)
    assert MerkleTree(leaves_of(70)).inclusion_proof(index, size) == proof
    verify_merkle_inclusion(leaves[index], index, size, proof, mth(leaves))


@settings(deadline=None)
@given(SIZES, st.data())
def test_consistency_proofs_are_those_of_the_definition(size: int, data: st.DataObject) -> None:
    leaves = leaves_of(size)
    old = data.draw(st.integers(1, size))
    proof = merkle_consistency_proof(leaves, old)
    assert proof == subproof(old, leaves, True)
    verify_merkle_consistency(old, mth(leaves[:old]), size, mth(leaves), proof)


@settings(deadline=None)
@given(SIZES, st.data())
def test_a_wrong_inclusion_is_refused(size: int, data: st.DataObject) -> None:
    leaves, root = leaves_of(size), merkle_root(leaves_of(size))
    index = data.draw(st.integers(0, size - 1))
    proof, leaf = merkle_inclusion_proof(leaves, index), leaves[index]
    wrong = [(leaf, index, size, other, root) for other in wrong_proofs(proof)]
    wrong += [
        (leaf, other, size, proof, root) for other in (*range(size + 2), -1) if other != index
    ]
    wrong += [(altered(leaf), index, size, proof, root), (leaf, index, size, proof, altered(root))]
    wrong += [(leaf, index, 0, proof, root), (leaf, index, size, proof, root[:31])]
    for case in wrong:
        with pytest.raises(EvidenceError):
            verify_merkle_inclusion(*case)


@settings(deadline=None)
@given(SIZES, st.data())
def test_a_wrong_consistency_is_refused(size: int, data: st.DataObject) -> None:
    leaves = leaves_of(size)
    old = data.draw(st.integers(1, size))
    proof = merkle_consistency_proof(leaves, old)
    old_root, new_root = mth(leaves[:old]), mth(leaves)
    wrong = [(old, old_root, size, new_root, other) for other in wrong_proofs(proof)]
    wrong += [
        (old, altered(old_root), size, new_root, proof),
        (old, old_root, size, altered(new_root), proof),
        (size + 1, old_root, size, new_root, proof),
        (-1, old_root, size, new_root, proof),
        (old, old_root, old - 1, new_root, proof),
    ]
    for case in wrong:
        with pytest.raises(EvidenceError):
            verify_merkle_consistency(*case)


@settings(deadline=None)
@given(SIZES, st.integers(1, 20), st.data())
def test_a_fork_has_no_consistency_proof(size: int, more: int, data: st.DataObject) -> None:
    changed = data.draw(st.integers(0, size - 1))
    honest = leaves_of(size + more)
    forked = list(honest)
    forked[changed] = merkle_leaf_hash(b"rewritten")
    for proof in (merkle_consistency_proof(honest, size), merkle_consistency_proof(forked, size)):
        with pytest.raises(EvidenceError):
            verify_merkle_consistency(size, mth(honest[:size]), len(forked), mth(forked), proof)


@pytest.mark.parametrize("size", range(18))
def test_a_running_root_is_that_of_the_tree(size: int) -> None:
    leaves = [merkle_leaf_hash(bytes([index])) for index in range(size)]
    running = MerkleDigest()
    for leaf in leaves:
        running.append(leaf)
    assert (running.size, running.root()) == (size, merkle_root(leaves))


def test_the_empty_ledger() -> None:
    leaves = leaves_of(3)
    verify_merkle_consistency(0, EMPTY_ROOT, 3, mth(leaves), merkle_consistency_proof(leaves, 0))
    verify_merkle_consistency(0, EMPTY_ROOT, 0, EMPTY_ROOT, [])
    for old_root, size, new_root, proof in (
        (mth(leaves), 3, mth(leaves), []),
        (EMPTY_ROOT, 3, mth(leaves), [leaves[0]]),
        (EMPTY_ROOT, 0, mth(leaves), []),
    ):
        with pytest.raises(EvidenceError):
            verify_merkle_consistency(0, old_root, size, new_root, proof)
    with pytest.raises(EvidenceError):
        verify_merkle_inclusion(leaves[0], 0, 0, [], EMPTY_ROOT)


def test_hashes_cannot_be_cut_elsewhere() -> None:
    # 64 bytes can be given as 0 + 64, too: then nothing, or a node's inside, would be a leaf.
    left, right = leaves_of(2)
    root = merkle_root([left, right])
    for leaf, index, proof in ((b"", 1, [left + right]), (left + right, 0, [b""])):
        with pytest.raises(EvidenceError, match="32 bytes"):
            verify_merkle_inclusion(leaf, index, 2, proof, root)


def test_places_that_do_not_exist() -> None:
    tree = MerkleTree(leaves_of(5))
    for call in (
        lambda: tree.root_at(6),
        lambda: tree.root_at(-1),
        lambda: tree.inclusion_proof(5, 5),
        lambda: tree.inclusion_proof(0, 6),
        lambda: tree.inclusion_proof(-1, 5),
        lambda: tree.consistency_proof(6),
        lambda: tree.consistency_proof(-1),
    ):
        with pytest.raises(ValueError, match=r"leaf|leaves"):
            call()


def test_an_append_and_its_root_cost_a_logarithm(monkeypatch: pytest.MonkeyPatch) -> None:
    hashes = 0
    node = merkle._merkle_node

    def counted(left: bytes, right: bytes) -> bytes:
        nonlocal hashes
        hashes += 1
        return node(left, right)

    monkeypatch.setattr(merkle, "_merkle_node", counted)
    tree = MerkleTree()
    for index in range(4096):
        tree.append(b"%d" % index)
        tree.root()
    assert hashes < 4096 * 8  # on average half of the 12 levels, and one hash to append
