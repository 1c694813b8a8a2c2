"""Layout of a safetensors file: where each tensor lies; read strictly and without torch.

The header is read here and not by the safetensors package, because that has no numpy type for
bfloat16 and float8: a digest needs the bytes, not their meaning.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Final, TypeAlias

from clicooper_hpc.errors import EvidenceError
from clicooper_hpc.provenance.canonical_json import MAX_INTEGER

__all__ = [
    "MAX_HEADER",
    "Content",
    "StoredTensor",
    "read_safetensors_layout",
    "read_safetensors_texts",
]

Content: TypeAlias = bytes | bytearray | memoryview

MAX_HEADER: Final = 1 << 24
"""Most bytes a header may have: about 100,000 tensors."""

#: Where the header has texts instead of a tensor.
_TEXTS: Final = "__metadata__"
_LENGTH_BYTES = 8
_MAX_DIMENSIONS = 64
_ITEM_BYTES: Final = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "F8_E8M0"), 1),
    **dict.fromkeys(("F8_E4M3FNUZ", "F8_E5M2FNUZ"), 1),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 2),
    **dict.fromkeys(("U32", "I32", "F32"), 4),
    **dict.fromkeys(("U64", "I64", "F64", "C64"), 8),
}


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """One tensor as stored: name, dtype code, shape, and its little-endian C-order bytes."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    content: memoryview

    @classmethod
    def byte_count(cls, dtype: str, shape: tuple[int, ...]) -> int:
        """Bytes of a tensor; ``KeyError`` for a dtype code that is not known."""
        return prod(shape) * _ITEM_BYTES[dtype]


def read_safetensors_layout(content: Content, *, where: str) -> dict[str, StoredTensor]:
    """Return the tensors of a safetensors file by name, without copying them.

    Parameters
    ----------
    content
        The whole file.
    where
        Name of the file, for errors.

    Raises
    ------
    EvidenceError
        The file is cut short, its header is damaged or too long, a tensor has an unknown dtype or
        a length that does not fit its shape, or tensors overlap, leave gaps or bytes at the end.
    """
    header, data = _split_safetensors(content, where)
    tensors: dict[str, StoredTensor] = {}
    places: list[tuple[int, int]] = []
    for name, entry in header.items():
        if name == _TEXTS:
            _check_texts(entry, where)
            continue
        dtype, shape, start, end = _safetensors_entry(name, entry, where)
        places.append((start, end))
        tensors[name] = StoredTensor(name, dtype, shape, data[start:end])
    _check_places(places, len(data), where)
    return tensors


def read_safetensors_texts(content: Content, *, where: str) -> dict[str, str]:
    """Return the texts that a safetensors file holds beside its tensors, by name.

    Raises
    ------
    EvidenceError
        The file is cut short, or its header is damaged or too long.
    """
    header, _ = _split_safetensors(content, where)
    return _check_texts(header.get(_TEXTS, {}), where)


def _split_safetensors(content: Content, where: str) -> tuple[dict[str, object], memoryview]:
    """Return the header and the bytes of all tensors."""
    # No copy: a checkpoint has gigabytes, and digests read it in place.
    view = memoryview(content).cast("B").toreadonly()
    if len(view) < _LENGTH_BYTES:
        raise _damaged_safetensors("is too short for a header", where)
    length = int.from_bytes(view[:_LENGTH_BYTES], "little")
    # Eight bytes may claim any length; nothing is read before this.
    if length > MAX_HEADER:
        raise _damaged_safetensors(
            f"has a header of {length} bytes; at most {MAX_HEADER} are allowed", where
        )
    if len(view) < _LENGTH_BYTES + length:
        raise _damaged_safetensors("ends within its header", where)
    header = _safetensors_header(bytes(view[_LENGTH_BYTES : _LENGTH_BYTES + length]), where)
    return header, view[_LENGTH_BYTES + length :]


def _safetensors_header(content: bytes, where: str) -> dict[str, object]:
    try:
        # The format wants the brace first; blanks may follow the closing one.
        if not content.startswith(b"{"):
            raise ValueError("no opening brace")
        value = json.loads(content.decode("utf-8"), object_pairs_hook=_safetensors_object)
    except (ValueError, RecursionError) as error:
        raise _damaged_safetensors("has a header that is not JSON", where) from error
    return value  # type: ignore[no-any-return]  # a text that begins with a brace is an object


def _safetensors_object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a key twice")
    return result


def _safetensors_entry(
    name: str, entry: object, where: str
) -> tuple[str, tuple[int, ...], int, int]:
    if not isinstance(entry, Mapping) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise _damaged_safetensors(
            f"describes the tensor {name!r} in a way that is not known", where
        )
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not (isinstance(dtype, str) and dtype in _ITEM_BYTES):
        raise _damaged_safetensors(f"has the tensor {name!r} of an unknown dtype", where)
    if not (_is_sizes(shape) and len(shape) <= _MAX_DIMENSIONS):
        raise _damaged_safetensors(f"has the tensor {name!r} of an impossible shape", where)
    if not (_is_sizes(offsets) and len(offsets) == 2):
        raise _damaged_safetensors(f"has the tensor {name!r} at an impossible place", where)
    start, end = offsets
    # Or the same bytes could be read as two tensors of other shapes.
    if end - start != StoredTensor.byte_count(dtype, tuple(shape)):
        raise _damaged_safetensors(
            f"has the tensor {name!r} with more or fewer bytes than its shape", where
        )
    return dtype, tuple(shape), start, end


def _check_texts(entry: object, where: str) -> dict[str, str]:
    if not isinstance(entry, dict) or not all(isinstance(text, str) for text in entry.values()):
        raise _damaged_safetensors("has metadata other than texts", where)
    return entry


def _is_sizes(value: object) -> bool:
    return isinstance(value, list) and all(
        # Not isinstance: true would pass for 1.
        type(item) is int and 0 <= item <= MAX_INTEGER
        for item in value
    )


def _check_places(places: list[tuple[int, int]], length: int, where: str) -> None:
    reached = 0
    # Bytes that belong to no tensor would travel under a digest that says nothing of them.
    for start, end in sorted(places):
        if start != reached:
            raise _damaged_safetensors("has tensors that overlap or leave a gap", where)
        reached = end
    if reached != length:
        raise _damaged_safetensors(
            f"has {length} bytes of tensors where its header says {reached}", where
        )


def _damaged_safetensors(what: str, where: str) -> EvidenceError:
    return EvidenceError(
        f"the tensor file {what}", where=where, remedy="Use an undamaged copy of the file."
    )
