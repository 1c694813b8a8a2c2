"""Digest of tensor files: what it binds, what it does not, and damaged files."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors.numpy import save

from clicooper_hpc.digests import Digest, digest_bytes
from clicooper_hpc.errors import EvidenceError
from clicooper_hpc.provenance.canonical_json import encode_canonical_json
from clicooper_hpc.provenance.merkle import merkle_leaf_hash, merkle_root
from clicooper_hpc.provenance.tensor_digest import (
    CHUNK_BYTES,
    ChunkOpening,
    digest_tensors,
    open_tensor_chunk,
    verify_tensor_chunk,
)

Tensors = dict[str, NDArray[Any]]

SMALL: Tensors = {
    "weight": np.arange(12, dtype="<f4").reshape(3, 4),
    "bias": np.array([-1, 0, 1], dtype="<i8"),
    "step": np.array(7, dtype="<i8"),
    "empty": np.zeros((0, 5), dtype="<f2"),
}
# Three chunks, the last of them short; and exactly two.
LARGE: Tensors = {
    "a.weight": np.arange(5 * CHUNK_BYTES // 8, dtype="<u4").reshape(-1, 8),
    "b.weight": np.full((CHUNK_BYTES // 2,), 3, dtype="<u4"),
    "c.weight": np.ones((2, 3), dtype="<f4"),
}
LARGE_FILE = save(LARGE)
LARGE_ROOT = digest_tensors(LARGE_FILE)


def h(*parts: bytes) -> bytes:
    return hashlib.sha256(b"".join(parts)).digest()


def naive_tree(leaves: list[bytes]) -> bytes:
    if len(leaves) < 2:
        return leaves[0] if leaves else h()
    k = 1
    while 2 * k < len(leaves):
        k *= 2
    return h(b"\x01", naive_tree(leaves[:k]), naive_tree(leaves[k:]))


def naive_digest(tensors: Tensors, codes: dict[str, str]) -> str:
    """The rule, written down a second time, from arrays instead of from a file."""
    leaves = []
    for name in sorted(tensors):
        value = tensors[name]
        content = value.tobytes()
        pieces = [content[i : i + 2**20] for i in range(0, len(content), 2**20)]
        chunks = naive_tree([h(b"\x00", piece) for piece in pieces]).hex()
        shape = ",".join(map(str, value.shape))
        text = f'{{"chunks":"{chunks}","dtype":"{codes[value.dtype.str]}","name":"{name}",'
        leaves.append(h(b"\x00", text.encode(), f'"shape":[{shape}]}}'.encode()))
    return h(b"clicooper/v1/tensors\x00", len(leaves).to_bytes(8, "big"), naive_tree(leaves)).hex()


CODES = {"<f4": "F32", "<i8": "I64", "<f2": "F16", "<u4": "U32", "<f8": "F64", "|u1": "U8"}


def test_golden_digests() -> None:
    assert str(digest_tensors(save(SMALL))) == (
        "clicooper/v1/tensors:4e186991bb1c321d078aa86e114f0dc018f346c78206e22f1f2c1f3b4d1bb28f"
    )
    assert LARGE_ROOT.hex == "9e006bd755c2372a1d0acbaa3973a24632c3eca256555b38cd132717f5a77cc3"
    assert digest_tensors(save({})).hex == (
        "1a2352754c150985220e007b0fdf44a83126f9694ff6a1cc7880aeedfac0b6bf"
    )


def test_the_rule() -> None:
    for tensors in (SMALL, LARGE, {}):
        assert digest_tensors(save(tensors)).hex == naive_digest(tensors, CODES)


ARRAYS = st.builds(
    lambda code, shape, seed: np.random.default_rng(seed).integers(0, 100, shape).astype(code),
    st.sampled_from(sorted(CODES)),
    st.lists(st.integers(0, 4), max_size=3),
    st.integers(0, 2**32),
)
NAMES = st.from_regex(r"[a-z.]{1,8}", fullmatch=True)


@settings(deadline=None)
@given(st.dictionaries(NAMES, ARRAYS, max_size=9))
def test_the_rule_on_any_tensors(tensors: Tensors) -> None:
    digest = digest_tensors(save(tensors))
    assert digest.hex == naive_digest(tensors, CODES)
    again = dict(reversed(list(tensors.items())))
    assert digest_tensors(save(again, {"format": "pt", "step": "3"})) == digest


def test_a_prefix_gives_the_digest_of_the_file_without_it() -> None:
    parts = {"weights": SMALL, "optimizer": {"0/step": np.array(3.0)}, "head": {}}
    checkpoint: Tensors = {}
    for part, tensors in parts.items():
        checkpoint |= {f"{part}/{name}": value for name, value in tensors.items()}
    content = save(checkpoint)
    for part, tensors in parts.items():
        assert digest_tensors(content, prefix=f"{part}/") == digest_tensors(save(tensors))
    assert digest_tensors(content) == digest_tensors(save(checkpoint))
    with pytest.raises(EvidenceError, match=r"^a\.safetensors: the tensor name"):
        digest_tensors(content, prefix="weights/bias", where="a.safetensors")


def test_whatever_is_changed_changes_the_digest() -> None:
    weight, bias = SMALL["weight"], SMALL["bias"]
    changed: list[Tensors] = [
        SMALL,
        {**SMALL, "weight": -weight},
        {**SMALL, "weight": weight.T.copy()},
        {**SMALL, "weight": weight.reshape(4, 3)},
        {**SMALL, "weight": weight.reshape(12)},
        {**SMALL, "weight": weight.view("<u4")},
        {**SMALL, "weight": np.nextafter(weight, np.float32(9))},
        {**SMALL, "bias": bias[:2]},
        {**SMALL, "empty": np.zeros((5, 0), dtype="<f2")},
        {**SMALL, "step": np.array([7], dtype="<i8")},
        {**SMALL, "more": np.zeros(0, dtype="<f4")},
        {name: value for name, value in SMALL.items() if name != "empty"},
        {("gain" if name == "bias" else name): value for name, value in SMALL.items()},
        {**SMALL, "bias": SMALL["step"], "step": bias},
        {},
    ]
    assert len({digest_tensors(save(tensors)) for tensors in changed}) == len(changed)


def test_each_bit_of_the_data_counts() -> None:
    content = save(SMALL)
    start = 8 + int.from_bytes(content[:8], "little")
    digests = {digest_tensors(content)}
    for place in range(start, len(content)):
        other = bytearray(content)
        other[place] ^= 1 << (place % 8)
        digests.add(digest_tensors(other))
    assert len(digests) == len(content) - start + 1


@pytest.mark.parametrize("view", [bytes, bytearray, memoryview])
def test_any_buffer_is_read(view: type) -> None:
    assert digest_tensors(view(save(SMALL))) == digest_tensors(save(SMALL))


@pytest.mark.parametrize(("name", "chunks"), [("a.weight", 3), ("b.weight", 2), ("c.weight", 1)])
def test_every_chunk_can_be_shown(name: str, chunks: int) -> None:
    content = LARGE[name].tobytes()
    shown = b""
    for chunk in range(chunks):
        opening = open_tensor_chunk(LARGE_FILE, name, chunk)
        verify_tensor_chunk(opening, LARGE_ROOT)
        shown += opening.content
    assert shown == content
    for chunk in (chunks, -1):
        with pytest.raises(EvidenceError, match="no chunk"):
            open_tensor_chunk(LARGE_FILE, name, chunk)


def test_a_chunk_of_a_part_of_a_checkpoint() -> None:
    content = save({f"weights/{name}": value for name, value in LARGE.items()})
    opening = open_tensor_chunk(content, "a.weight", 2, prefix="weights/")
    assert opening == open_tensor_chunk(LARGE_FILE, "a.weight", 2)
    verify_tensor_chunk(opening, LARGE_ROOT)
    with pytest.raises(EvidenceError, match="no chunk 0"):
        open_tensor_chunk(content, "d.weight", 0, prefix="weights/", where="f")
    with pytest.raises(EvidenceError, match="no chunk 0"):
        open_tensor_chunk(save(SMALL), "empty", 0)


def _altered(value: bytes) -> bytes:
    return bytes([value[0] ^ 1]) + value[1:]


def _wrong_openings() -> list[tuple[str, ChunkOpening]]:
    good = open_tensor_chunk(LARGE_FILE, "a.weight", 1)
    other = open_tensor_chunk(LARGE_FILE, "b.weight", 1)
    last = open_tensor_chunk(LARGE_FILE, "a.weight", 2)
    wrong: list[tuple[str, ChunkOpening]] = [
        ("content", replace(good, content=_altered(good.content))),
        ("shorter", replace(good, content=good.content[:-1])),
        ("longer", replace(last, content=last.content + b"\x00")),
        ("nothing", replace(good, content=b"")),
        ("chunk", replace(good, chunk=0)),
        ("beyond", replace(good, chunk=3)),
        ("negative chunk", replace(good, chunk=-1)),
        ("name", replace(good, name="b.weight")),
        ("no name", replace(good, name="\ud800")),
        ("dtype", replace(good, dtype="F32")),
        ("no dtype", replace(good, dtype="X")),
        ("shape", replace(good, shape=good.shape[::-1])),
        ("float shape", replace(good, shape=(good.shape[0], 8.0))),  # type: ignore[arg-type]
        ("chunk root", replace(good, chunk_root=_altered(good.chunk_root))),
        ("of another", replace(good, chunk_root=other.chunk_root, chunk_proof=other.chunk_proof)),
        ("root", replace(good, root=_altered(good.root))),
        ("short root", replace(good, root=good.root[:-1])),
        ("count", replace(good, count=4)),
        ("no count", replace(good, count=0)),
        ("count of 2**64", replace(good, count=2**64)),
        ("index", replace(good, index=1)),
        ("negative index", replace(good, index=-1)),
        ("no proof", replace(good, proof=())),
        ("no chunk proof", replace(good, chunk_proof=())),
    ]
    for place in range(len(good.proof)):
        proof = list(good.proof)
        proof[place] = _altered(proof[place])
        wrong.append((f"proof {place}", replace(good, proof=tuple(proof))))
    for place in range(len(good.chunk_proof)):
        proof = list(good.chunk_proof)
        proof[place] = _altered(proof[place])
        wrong.append((f"chunk proof {place}", replace(good, chunk_proof=tuple(proof))))
    return wrong


@pytest.mark.parametrize(
    "opening", [pytest.param(opening, id=name) for name, opening in _wrong_openings()]
)
def test_a_wrong_opening_is_refused(opening: ChunkOpening) -> None:
    with pytest.raises(EvidenceError, match="chunk"):
        verify_tensor_chunk(opening, LARGE_ROOT)


def test_chunks_have_one_size_even_if_their_author_made_others() -> None:
    halves = [merkle_leaf_hash(b"12345"), merkle_leaf_hash(b"67890")]
    leaf = merkle_leaf_hash(
        encode_canonical_json(
            {"chunks": merkle_root(halves).hex(), "dtype": "U8", "name": "a", "shape": [10]}
        )
    )
    digest = digest_bytes("clicooper/v1/tensors", (1).to_bytes(8, "big") + merkle_root([leaf]))
    opening = ChunkOpening(
        name="a",
        dtype="U8",
        shape=(10,),
        chunk=0,
        content=b"12345",
        chunk_proof=(halves[1],),
        chunk_root=merkle_root(halves),
        index=0,
        count=1,
        proof=(),
        root=merkle_root([leaf]),
    )
    with pytest.raises(EvidenceError, match="not as long as its place"):
        verify_tensor_chunk(opening, digest)


def test_an_opening_is_of_one_digest() -> None:
    opening = open_tensor_chunk(LARGE_FILE, "a.weight", 1)
    for digest in (digest_tensors(save(SMALL)), Digest("clicooper/v1/other", LARGE_ROOT.value)):
        with pytest.raises(EvidenceError, match="other tensors"):
            verify_tensor_chunk(opening, digest)
