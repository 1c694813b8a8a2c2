"""Reading safetensors files: damage is refused, and the rest is read as the package reads it."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save
from safetensors.torch import save as save_torch

from clicooper_hpc.errors import EvidenceError
from clicooper_hpc.provenance.safetensors_layout import MAX_HEADER, read_safetensors_layout
from clicooper_hpc.provenance.tensor_digest import digest_tensors

Tensors = dict[str, NDArray[Any]]

SMALL: Tensors = {
    "weight": np.arange(12, dtype="<f4").reshape(3, 4),
    "bias": np.array([-1, 0, 1], dtype="<i8"),
    "step": np.array(7, dtype="<i8"),
    "empty": np.zeros((0, 5), dtype="<f2"),
}


def file_of(header: object, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def entry(start: int, end: int, shape: object, dtype: object = "U8") -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


def test_every_kind_of_tensor_is_read() -> None:
    kinds = {
        "bool": torch.bool,
        "u8": torch.uint8,
        "i8": torch.int8,
        "i16": torch.int16,
        "u16": torch.uint16,
        "i32": torch.int32,
        "u32": torch.uint32,
        "i64": torch.int64,
        "u64": torch.uint64,
        "f16": torch.float16,
        "bf16": torch.bfloat16,
        "f32": torch.float32,
        "f64": torch.float64,
        "c64": torch.complex64,
        "e4m3": torch.float8_e4m3fn,
        "e5m2": torch.float8_e5m2,
    }
    seen = set()
    for name, dtype in kinds.items():
        content = save_torch({name: torch.zeros(2, 3, dtype=dtype)})
        (tensor,) = read_safetensors_layout(content, where="f").values()
        assert len(tensor.content) == 6 * dtype.itemsize
        assert tensor.shape == (2, 3)
        seen.add(digest_tensors(save_torch({"x": torch.zeros(2, 3, dtype=dtype)})))
    assert len(seen) == len(kinds)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"1234567", id="seven bytes"),
        pytest.param((2**64 - 1).to_bytes(8, "little") + b"{}", id="length of 2**64"),
        pytest.param((MAX_HEADER + 1).to_bytes(8, "little") + b"{}", id="long header"),
        pytest.param((3).to_bytes(8, "little") + b"{}", id="ends in the header"),
        pytest.param(file_of(b""), id="no header"),
        pytest.param(file_of(b"[]"), id="list"),
        pytest.param(file_of(b" {}"), id="space first"),
        pytest.param(file_of(b"{"), id="not closed"),
        pytest.param(file_of(b"{}x"), id="more after the header"),
        pytest.param(file_of(b'{"\xff":1}'), id="no UTF-8"),
        pytest.param(file_of(b'{"a":' * 50000), id="deep header"),
        pytest.param(file_of(b'{"__metadata__":' + b"[" * 50000 + b"]" * 50000 + b"}"), id="deep"),
        pytest.param(file_of({"__metadata__": {"a": 1}}), id="metadata of numbers"),
        pytest.param(file_of({"__metadata__": []}), id="metadata is a list"),
        pytest.param(file_of({"a": 1}), id="entry is a number"),
        pytest.param(file_of({"a": {}}), id="entry is empty"),
        pytest.param(file_of({"a": {**entry(0, 1, [1]), "x": 1}}, b"1"), id="unknown field"),
        pytest.param(file_of({"a": entry(0, 1, [1], "U7")}, b"1"), id="unknown dtype"),
        pytest.param(file_of({"a": entry(0, 1, [1], ["U8"])}, b"1"), id="dtype is a list"),
        pytest.param(file_of({"a": entry(0, 1, [-1])}, b"1"), id="negative size"),
        pytest.param(file_of({"a": entry(0, 1, [-1, -1])}, b"1"), id="two negative sizes"),
        pytest.param(file_of({"a": entry(0, 1, [1.0])}, b"1"), id="float size"),
        pytest.param(file_of({"a": entry(0, 1, [True])}, b"1"), id="bool size"),
        pytest.param(file_of({"a": entry(0, 1, "1")}, b"1"), id="shape is a string"),
        pytest.param(file_of({"a": entry(0, 1, [1] * 65)}, b"1"), id="65 dimensions"),
        pytest.param(file_of({"a": entry(0, 0, [2**53, 0])}), id="size of 2**53"),
        pytest.param(file_of({"a": entry(0, 1, [2**32, 2**32])}, b"1"), id="product of 2**64"),
        pytest.param(file_of({"a": entry(0, 2, [1])}, b"12"), id="more bytes than the shape"),
        pytest.param(file_of({"a": entry(0, 1, [2])}, b"1"), id="fewer bytes than the shape"),
        pytest.param(file_of({"a": entry(1, 0, [1])}, b"1"), id="ends before it begins"),
        pytest.param(file_of({"a": entry(0, 2, [2])}, b"1"), id="cut data"),
        pytest.param(file_of({"a": entry(0, 1, [1])}, b"12"), id="data behind the tensors"),
        pytest.param(file_of({"a": entry(1, 2, [1])}, b"12"), id="gap at the beginning"),
        pytest.param(
            file_of({"a": entry(0, 1, [1]), "b": entry(2, 3, [1])}, b"123"), id="gap between"
        ),
        pytest.param(file_of({"a": entry(0, 2, [2]), "b": entry(1, 3, [2])}, b"123"), id="overlap"),
        pytest.param(
            file_of({"a": entry(0, 2, [2]), "b": entry(0, 2, [2])}, b"12"), id="the same place"
        ),
        pytest.param(
            file_of({"a": entry(0, 2, [2]), "b": entry(1, 1, [0])}, b"12"), id="empty inside"
        ),
        pytest.param(
            file_of(b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1,1]}}', b"1"),
            id="three offsets",
        ),
        pytest.param(
            file_of(
                b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},'
                b'"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}',
                b"1",
            ),
            id="name twice",
        ),
        pytest.param(file_of({"\ud800": entry(0, 1, [1])}, b"1"), id="name is no text"),
        pytest.param(file_of({"e\u0301": entry(0, 1, [1])}, b"1"), id="name is not NFC"),
        pytest.param(file_of({"": entry(0, 1, [1])}, b"1"), id="no name"),
    ],
)
def test_damaged_files_are_refused(content: bytes) -> None:
    with pytest.raises(EvidenceError, match=r"^segment-2\.safetensors: ") as caught:
        digest_tensors(content, where="segment-2.safetensors")
    assert len(str(caught.value)) < 300


def test_a_header_has_a_limit() -> None:
    blanks = MAX_HEADER - 2
    assert digest_tensors(file_of(b"{}" + b" " * blanks)) == digest_tensors(save({}))
    with pytest.raises(EvidenceError, match="at most"):
        digest_tensors(file_of(b"{}" + b" " * (blanks + 1)))


def test_no_part_of_a_file_can_be_missing() -> None:
    content = save(SMALL)
    for size in range(len(content)):
        with pytest.raises(EvidenceError):
            digest_tensors(content[:size])


LETTERS = st.sampled_from(b' 0123456789[]{},:"abUIF8') | st.integers(0, 255)


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_what_is_read_the_safetensors_package_reads_alike(data: st.DataObject) -> None:
    tensors: Tensors = {"a": np.arange(6, dtype="<u4").reshape(2, 3), "b": np.ones(2, "|u1")}
    content = bytearray(save(tensors, {"k": "v"}))
    for _ in range(data.draw(st.integers(1, 2))):
        place = data.draw(st.integers(0, len(content) - 27))
        content[place] = data.draw(LETTERS)
    try:
        layout = read_safetensors_layout(content, where="f")
    except EvidenceError:
        return
    if any(t.dtype.startswith(("BF", "F8", "C")) for t in layout.values()):
        return  # no numpy type
    try:
        other = load(bytes(content))
    except SafetensorError as error:
        pytest.fail(f"read here, refused there: {error} {bytes(content)!r}")
    assert set(layout) == set(other)
    for name, tensor in layout.items():
        assert tensor.shape == other[name].shape
        assert bytes(tensor.content) == other[name].tobytes()
