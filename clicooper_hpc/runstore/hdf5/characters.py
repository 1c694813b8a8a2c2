"""Arrays of texts as netCDF has them: one character an element, along an axis of their length.

HDF5 has arrays of fixed-length text too, but netCDF-C 4.9 ends the process of whoever reads one
(``ncdump``), and later versions where a fill value stands beside it. The bytes on the disk are the
same either way. The axis is a dimension scale ``stringN`` in the group, of which netCDF shows the
length and nothing else.
"""

from __future__ import annotations

import re
from typing import Any, Final

import h5py
import numpy as np

from clicooper_hpc.runstore.hdf5.vetting import UnexpectedContentError

__all__ = [
    "CHARACTER",
    "ENCODING",
    "attach_character_scale",
    "characters_to_texts",
    "is_character_scale",
    "texts_to_characters",
    "vet_characters",
]

#: One byte of a text in UTF-8.
CHARACTER: Final = h5py.string_dtype("utf-8", 1)
#: What netCDF4 and xarray ask for before they put characters together.
ENCODING: Final = {"_Encoding": "utf-8"}
_SCALE: Final = re.compile(r"string([1-9]\d*)")
#: The name that netCDF gives scales without values.
_NO_VARIABLE: Final = "This is a netCDF dimension but not a netCDF variable.%10d"


def is_character_scale(name: str) -> bool:
    """Tell whether a dataset of this name is the axis of characters, which holds nothing."""
    return _SCALE.fullmatch(name) is not None


def attach_character_scale(dataset: Any, group: Any) -> None:
    """Make ``stringN`` of ``group``, made if it is not there, the scale of the last axis."""
    length = dataset.shape[-1]
    name = f"string{length}"
    if name not in group:
        # Never written, so it takes no space.
        scale = group.create_dataset(name, shape=(length,), dtype=np.uint8)
        scale.make_scale(_NO_VARIABLE % length)
    axis = dataset.dims[dataset.ndim - 1]
    axis.attach_scale(group[name])
    axis.label = name


def vet_characters(dataset: Any) -> None:
    """Refuse a dataset of texts that is not one of single characters."""
    if dataset.dtype.itemsize != 1 or not dataset.shape[-1]:
        raise UnexpectedContentError(
            dataset.name, f"is {dataset.dtype} of shape {dataset.shape}; expected are characters"
        )


def texts_to_characters(texts: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return fixed-length texts ``S<n>`` [...] as characters ``S1`` [..., n]."""
    length = texts.dtype.itemsize
    return np.ascontiguousarray(texts).reshape(-1).view("S1").reshape(*texts.shape, length)


def characters_to_texts(characters: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return characters ``S1`` [..., n] as texts ``S<n>`` [...]; n is at least 1."""
    *shape, length = characters.shape
    return np.ascontiguousarray(characters).reshape(-1).view(f"S{length}").reshape(shape)
