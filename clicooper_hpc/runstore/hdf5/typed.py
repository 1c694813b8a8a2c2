"""Typed access to a vetted HDF5 file: what is asked for is there, of its kind, or one error.

Groups and datasets are h5py's; `vet_hdf5_file` has looked at links, types and sizes. Attributes are
looked at here, before each is read. Whatever is missing or of another kind raises
`UnexpectedContentError`, which `read_hdf5_file` turns into the error the user sees.
"""

from __future__ import annotations

from typing import Any

import h5py
import numpy as np
from h5py import h5a, h5s

from clicooper_hpc.runstore.hdf5.characters import characters_to_texts, vet_characters
from clicooper_hpc.runstore.hdf5.files import Attribute
from clicooper_hpc.runstore.hdf5.vetting import UnexpectedContentError, vet_hdf5_type
from clicooper_hpc.runstore.limits import MOST_ATTRIBUTES

__all__ = [
    "find_hdf5_format",
    "find_hdf5_group",
    "find_hdf5_text",
    "hdf5_dataset",
    "hdf5_group",
    "hdf5_scalar",
    "hdf5_texts",
    "hdf5_whole_numbers",
    "read_hdf5_attribute",
    "read_hdf5_attributes",
    "read_hdf5_text_attribute",
]


def read_hdf5_attributes(target: Any) -> dict[str, Attribute]:
    """Return all attributes of ``target`` as plain Python values; each must be a plain scalar."""
    count = h5a.get_num_attrs(_object_id(target))
    if count > MOST_ATTRIBUTES:
        raise UnexpectedContentError(
            _place(target), f"has {count} attributes; at most {MOST_ATTRIBUTES} are read"
        )
    return {name: read_hdf5_attribute(target, name) for name in target.attrs}


def read_hdf5_attribute(target: Any, name: str) -> Attribute:
    """Return one attribute as a plain Python value."""
    place = f"{_place(target)} (attribute {name})"
    raw = name.encode("utf-8", "surrogateescape")
    if not h5a.exists(_object_id(target), raw):
        raise UnexpectedContentError(place, "is missing")
    attribute = h5a.open(_object_id(target), raw)
    # Before it is read: its type and shape could be anything.
    vet_hdf5_type(attribute.get_type(), place)
    if attribute.get_space().get_simple_extent_type() != h5s.SCALAR:
        raise UnexpectedContentError(place, "is no single value")
    value = target.attrs[name]
    # Numbers of an attribute have 64 bits; one of 8 is a truth value.
    return bool(value) if value.dtype == np.uint8 else _plain(value, place)


def read_hdf5_text_attribute(target: Any, name: str) -> str:
    """Return one attribute that is a text."""
    value = read_hdf5_attribute(target, name)
    if not isinstance(value, str):
        raise UnexpectedContentError(
            f"{_place(target)} (attribute {name})", f"is {value!r}; expected is a text"
        )
    return value


def find_hdf5_format(file: Any) -> str | None:
    """Return what the root attribute ``format`` names, None if it names nothing."""
    try:
        return read_hdf5_text_attribute(file, "format")
    except UnexpectedContentError:
        return None


def find_hdf5_group(parent: Any, name: str) -> Any:
    """Return the group ``name`` of ``parent``, or None if nothing has that name."""
    if name not in parent:
        return None
    found = parent[name]
    if not isinstance(found, h5py.Group):
        raise UnexpectedContentError(_below(parent, name), "is a dataset; expected is a group")
    return found


def hdf5_group(parent: Any, name: str) -> Any:
    """Return the group ``name`` of ``parent``."""
    found = find_hdf5_group(parent, name)
    if found is None:
        raise UnexpectedContentError(_below(parent, name), "is missing; expected is a group")
    return found


def hdf5_dataset(parent: Any, name: str, *, kinds: str, dimensions: int | None = None) -> Any:
    """Return the dataset ``name``, whose dtype is of one of ``kinds`` (NumPy's letters).

    ``dimensions`` None: any number of them.
    """
    place = _below(parent, name)
    if name not in parent:
        raise UnexpectedContentError(place, "is missing; expected is a dataset")
    found = parent[name]
    if not isinstance(found, h5py.Dataset) or found.is_virtual:
        raise UnexpectedContentError(place, "is something else; expected is a dataset with data")
    fits = found.shape is not None and dimensions in (None, found.ndim)
    if not fits or found.dtype.kind not in kinds:
        raise UnexpectedContentError(
            place,
            f"is {found.dtype} of shape {found.shape}; expected are "
            + " or ".join(_KIND_WORDS[kind] for kind in kinds if kind in _KIND_WORDS)
            + ("" if dimensions is None else f" in {dimensions} dimensions"),
        )
    return found


_KIND_WORDS = {
    "S": "text",
    "i": "whole numbers",
    "f": "floating-point numbers",
    "b": "truth values",
}


def hdf5_scalar(parent: Any, name: str) -> Attribute:
    """Return a dataset of one text, number or truth value."""
    return _plain(hdf5_dataset(parent, name, kinds="bifuS", dimensions=0)[()], _below(parent, name))


def find_hdf5_text(parent: Any, name: str) -> str | None:
    """Return a dataset of one text, or None if nothing has that name."""
    if name not in parent:
        return None
    found = hdf5_dataset(parent, name, kinds="S", dimensions=0)
    return _text(found[()], _below(parent, name))


def hdf5_texts(parent: Any, name: str) -> list[str]:
    """Return a dataset of texts in one dimension."""
    place = _below(parent, name)
    dataset = hdf5_dataset(parent, name, kinds="S", dimensions=2)
    vet_characters(dataset)
    return [_text(value, place) for value in characters_to_texts(dataset[()]).tolist()]


def hdf5_whole_numbers(parent: Any, name: str) -> list[int]:
    """Return a dataset of whole numbers in one dimension."""
    numbers: list[int] = hdf5_dataset(parent, name, kinds="iu", dimensions=1)[()].tolist()
    return numbers


def _plain(value: Any, place: str) -> Attribute:
    if isinstance(value, bytes):
        return _text(value, place)
    if isinstance(value, np.generic):
        value = value.item()
    # Text of h5py may come as str already.
    if isinstance(value, str | bool | int | float):
        return value
    raise UnexpectedContentError(place, f"is {type(value).__name__}; expected is a plain value")


def _text(value: bytes, place: str) -> str:
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        raise UnexpectedContentError(place, "is a text that is not UTF-8") from None


def _object_id(target: Any) -> Any:
    # HDF5 1.10 takes a file for an object with attributes in some calls and refuses it in others.
    return target["/"].id if isinstance(target, h5py.File) else target.id


def _place(target: Any) -> str:
    return str(target.name)


def _below(parent: Any, name: str) -> str:
    return f"{_place(parent).rstrip('/')}/{name}"
