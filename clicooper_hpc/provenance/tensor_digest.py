"""Digest of named tensors, in which any 1 MiB of one tensor can be shown on its own.

The leaves of the tree (`merkle`) are the tensors in the order of their names, each the canonical
JSON of name, dtype, shape and the root of a second tree, whose leaves are the 1 MiB chunks of the
little-endian C-order bytes. The digest of the set is ``SHA256(tag || 0x00 || count || root)`` with
the number of tensors as 8 bytes, big-endian. Texts stored beside the tensors are not part of it.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from clicooper_hpc.digests import Digest, digest_bytes
from clicooper_hpc.errors import EvidenceError
from clicooper_hpc.provenance.canonical_json import encode_canonical_json
from clicooper_hpc.provenance.merkle import MerkleTree, merkle_leaf_hash, verify_merkle_inclusion
from clicooper_hpc.provenance.safetensors_layout import (
    Content,
    StoredTensor,
    read_safetensors_layout,
)

__all__ = [
    "CHUNK_BYTES",
    "TENSORS_TAG",
    "ChunkOpening",
    "digest_stored_tensors",
    "digest_tensors",
    "open_tensor_chunk",
    "verify_tensor_chunk",
]

TENSORS_TAG: Final = "clicooper/v1/tensors"
CHUNK_BYTES: Final = 1 << 20

_FILE = "safetensors file"


@dataclass(frozen=True, slots=True)
class ChunkOpening:
    """One chunk of one tensor, with all that leads from it to the digest of the set.

    Parameters
    ----------
    name, dtype, shape
        The tensor, its name without the prefix.
    chunk
        Index of the chunk.
    content
        Its bytes: `CHUNK_BYTES`, fewer in the last chunk.
    chunk_proof
        Inclusion of the chunk in the tensor.
    chunk_root
        Root of the tensor's chunks.
    index, count
        Place of the tensor in the order of names, and number of tensors.
    proof
        Inclusion of the tensor in the set.
    root
        Root of the set's tree.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    chunk: int
    content: bytes
    chunk_proof: tuple[bytes, ...]
    chunk_root: bytes
    index: int
    count: int
    proof: tuple[bytes, ...]
    root: bytes


def digest_tensors(content: Content, *, prefix: str = "", where: str = _FILE) -> Digest:
    """Digest the tensors of a safetensors file.

    Parameters
    ----------
    content
        The whole file.
    prefix
        Only tensors whose name begins with it count, and the digest has their names without it:
        ``"weights/"`` of a checkpoint gives the digest of the delivered file. No such tensor
        gives the digest of an empty set, the state of an optimizer that has none.
    where
        Name of the file, for errors.

    Raises
    ------
    EvidenceError
        The file is damaged (see `read_safetensors_layout`), or a name has no canonical form.
    """
    return digest_stored_tensors(_selected_tensors(content, prefix, where))


def digest_stored_tensors(tensors: Mapping[str, StoredTensor]) -> Digest:
    """Digest tensors under the names they have in ``tensors``, whatever files call them."""
    # Sorted by name: the order of a file is its writer's choice and says nothing.
    tree = MerkleTree([_tensor_leaf(name, tensors[name]) for name in sorted(tensors)])
    return _tensor_set_digest(tree.size, tree.root())


def open_tensor_chunk(
    content: Content, name: str, chunk: int, *, prefix: str = "", where: str = _FILE
) -> ChunkOpening:
    """Open one chunk of the tensor ``name`` (without the prefix) of a safetensors file.

    Raises
    ------
    EvidenceError
        The file is damaged, or has no such tensor or chunk.
    """
    tensors = _selected_tensors(content, prefix, where)
    count = _chunk_count(len(tensors[name].content)) if name in tensors else 0
    if not 0 <= chunk < count:
        raise EvidenceError(
            f"there is no chunk {chunk} of a tensor {name!r}",
            where=where,
            remedy="Check the name, and the size of the tensor.",
        )
    tensor = tensors[name]
    chunks = _chunk_tree(tensor.content)
    tree = MerkleTree([_tensor_leaf(other, value) for other, value in tensors.items()])
    index = list(tensors).index(name)
    return ChunkOpening(
        name=name,
        dtype=tensor.dtype,
        shape=tensor.shape,
        chunk=chunk,
        content=bytes(tensor.content[chunk * CHUNK_BYTES : (chunk + 1) * CHUNK_BYTES]),
        chunk_proof=tuple(chunks.inclusion_proof(chunk, count)),
        chunk_root=chunks.root(),
        index=index,
        count=tree.size,
        proof=tuple(tree.inclusion_proof(index, tree.size)),
        root=tree.root(),
    )


def verify_tensor_chunk(opening: ChunkOpening, digest: Digest) -> None:
    """Check that the chunk is part of the tensors that have ``digest``.

    Raises
    ------
    EvidenceError
        The opening leads to another digest, or its chunk is not as long as its place requires.
    """
    where = f"chunk {opening.chunk} of the tensor {opening.name!r}"
    try:
        byte_count = StoredTensor.byte_count(opening.dtype, opening.shape)
        leaf = _described_tensor_leaf(
            opening.name, opening.dtype, opening.shape, opening.chunk_root
        )
    except (KeyError, ValueError) as error:
        raise _refused_chunk("the opening names no possible tensor", where) from error
    # The length is not in the tree: dtype and shape in the leaf fix it.
    if len(opening.content) != min(CHUNK_BYTES, byte_count - opening.chunk * CHUNK_BYTES):
        raise _refused_chunk("the chunk is not as long as its place in the tensor requires", where)
    # The number of tensors is in the digest, or a smaller tree could pass for the set.
    if not 0 < opening.count < 2**63 or _tensor_set_digest(opening.count, opening.root) != digest:
        raise _refused_chunk("the opening belongs to other tensors", where)
    chunks = _chunk_count(byte_count)
    try:
        chunk = merkle_leaf_hash(opening.content)
        verify_merkle_inclusion(
            chunk, opening.chunk, chunks, opening.chunk_proof, opening.chunk_root
        )
        verify_merkle_inclusion(leaf, opening.index, opening.count, opening.proof, opening.root)
    except EvidenceError as error:
        raise _refused_chunk("the opening does not lead to the digest", where) from error


def _selected_tensors(content: Content, prefix: str, where: str) -> dict[str, StoredTensor]:
    tensors = read_safetensors_layout(content, where=where)
    names = sorted(name for name in tensors if name.startswith(prefix))
    for name in names:
        if name == prefix or not _is_plain_name(name):
            raise EvidenceError(
                f"the tensor name {name!r} has no canonical form",
                where=where,
                remedy="Name tensors with Unicode text in form NFC.",
            )
    return {name.removeprefix(prefix): tensors[name] for name in names}


def _is_plain_name(name: str) -> bool:
    # A lone surrogate can be escaped in JSON, but is no character and has no bytes.
    lone = any("\ud800" <= letter <= "\udfff" for letter in name)
    return not lone and unicodedata.is_normalized("NFC", name)


def _tensor_leaf(name: str, tensor: StoredTensor) -> bytes:
    return _described_tensor_leaf(
        name, tensor.dtype, tensor.shape, _chunk_tree(tensor.content).root()
    )


def _described_tensor_leaf(
    name: str, dtype: str, shape: tuple[int, ...], chunk_root: bytes
) -> bytes:
    description = encode_canonical_json(
        {"chunks": chunk_root.hex(), "dtype": dtype, "name": name, "shape": list(shape)}
    )
    return merkle_leaf_hash(description)


def _chunk_tree(content: memoryview) -> MerkleTree:
    starts = range(0, len(content), CHUNK_BYTES)
    # Of pieces, so that one of them can be shown without the rest of the tensor.
    return MerkleTree([merkle_leaf_hash(content[start : start + CHUNK_BYTES]) for start in starts])


def _chunk_count(byte_count: int) -> int:
    return -(-byte_count // CHUNK_BYTES)


def _tensor_set_digest(count: int, root: bytes) -> Digest:
    # An empty set has a digest of its own: the state of an optimizer without state.
    return digest_bytes(TENSORS_TAG, count.to_bytes(8, "big") + root)


def _refused_chunk(what: str, where: str) -> EvidenceError:
    return EvidenceError(what, where=where, remedy="Ask for an opening of the digest in the proof.")
