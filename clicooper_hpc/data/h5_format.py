"""The native file format: names, limits, and the checks made when a file is opened.

A file holds one group per split with two data sets::

    /train/x   (n, D) vectors or (n, H, W, C) images, uint8 or float32
    /train/y   (n,)   int64 class numbers in [0, K)
    /test/...  and optionally /validation/...

and the root attribute `class_names`, K fixed-length UTF-8 strings. Files without a `format`
attribute are accepted as long as they have these data sets: h5py and three lines of Python are
enough to make one.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from typing import Any

import h5py
import numpy as np

from clicooper_hpc.data.class_labels import check_class_names
from clicooper_hpc.errors import DataError

__all__ = [
    "FORMAT_NAME",
    "FORMAT_VERSION",
    "SPLITS",
    "check_h5_header",
    "check_h5_split",
    "h5_format_errors",
    "h5_row_fault",
    "refuse_h5_link",
]

FORMAT_NAME = "clicooper-data"
FORMAT_VERSION = 1
# A chunk is unpacked whole to read one row of it.
_MOST_CHUNK_BYTES = 256 * 1024 * 1024
SPLITS = ("train", "validation", "test")


@contextmanager
def h5_format_errors(where: str, doing: str = "cannot be read") -> Iterator[None]:
    """Turn what h5py raises on a damaged or unreadable file into one DataError at ``where``."""
    try:
        yield
    # All of these were seen from h5py over damaged files.
    except (
        OSError,
        RuntimeError,
        LookupError,
        TypeError,
        ValueError,
        AttributeError,
        OverflowError,
        MemoryError,
    ) as error:
        # With an errno the system refused; without one the library found the content wrong.
        number = getattr(error, "errno", None)
        reason = os.strerror(number) if number else (str(error)[:200].splitlines() or [""])[0]
        raise DataError(
            f"{doing} ({reason or type(error).__name__})",
            where=where,
            remedy=None if number else "The file is damaged or is not HDF5: import it again",
        ) from error


def h5_row_fault(shape: tuple[int, ...], dtype: np.dtype[Any]) -> str | None:
    """Say why rows of this shape (n, ...) and dtype are not allowed; None if they are."""
    if dtype not in (np.dtype(np.uint8), np.dtype(np.float32)):
        return f"has dtype {dtype}, allowed are uint8 and float32"
    # No (n, H, W): with a channel axis for grey images too, fronts and networks see one layout.
    if len(shape) not in (2, 4):
        return f"has shape {shape}, allowed are (n, D) vectors and (n, H, W, C) images"
    if 0 in shape:
        return f"is empty (shape {shape})"
    return None


def check_h5_header(file: h5py.File, path: str) -> tuple[str, ...]:
    """Check the root attributes and return the class names.

    Raises
    ------
    DataError
        If the file is another format or a later version, or has no usable class names.
    """
    # Files made by hand need no attributes but the class names, so a missing one is no fault.
    name = file.attrs.get("format", FORMAT_NAME)
    name = name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name)
    if name != FORMAT_NAME:
        raise DataError(f"is a {name[:40]!r} file, not a data set", where=path)
    version = file.attrs.get("format_version", FORMAT_VERSION)
    # A later version may mean the same names otherwise: refused, not guessed.
    if not isinstance(version, int | np.integer) or not 1 <= version <= FORMAT_VERSION:
        raise DataError(
            f"has format version {str(version)[:40]}, this program reads up to {FORMAT_VERSION}",
            where=path,
            remedy="Update clicooper, or import the data again",
        )
    if "class_names" not in file.attrs:
        raise DataError(
            "has no root attribute class_names",
            where=path,
            remedy="Store the names of the K classes there, in the order of their numbers",
        )
    raw = np.atleast_1d(file.attrs["class_names"])
    names = tuple(n.decode("utf-8", "replace") if isinstance(n, bytes) else str(n) for n in raw)
    check_class_names(names, f"{path}, attribute class_names")
    return names


def check_h5_split(group: Any, where: str) -> tuple[h5py.Dataset, h5py.Dataset]:
    """Check names, shapes, dtypes and storage of one split; return its (x, y) data sets.

    The labels' values are not looked at here (that takes reading).
    """
    # A file from elsewhere may have anything under these names, a data set or a dangling link.
    if not isinstance(group, h5py.Group):
        raise DataError("is not a group", where=where)
    for name in ("x", "y"):
        dataset = _own_dataset(group, name, where)
        # A virtual or external part that is missing or short reads as zeros, without an error.
        if dataset.is_virtual or dataset.external is not None:
            raise DataError(
                "keeps its content in other files",
                where=f"{where}/{name}",
                remedy="Copy it into one file (h5repack does)",
            )
    x, y = group["x"], group["y"]
    # Big-endian files are fine: rows are turned to the native order when they are read.
    fault = h5_row_fault(x.shape or (), x.dtype.newbyteorder("="))
    if fault:
        raise DataError(fault, where=f"{where}/x")
    if y.dtype.newbyteorder("=") != np.int64 or len(y.shape or ()) != 1:
        raise DataError(
            f"has dtype {y.dtype} and shape {y.shape}, labels are int64 of shape (n,)",
            where=f"{where}/y",
        )
    if len(x) != len(y):
        raise DataError(f"x has {len(x):,} rows and y has {len(y):,}", where=where)
    for name, dataset in (("x", x), ("y", y)):
        _check_written(dataset, f"{where}/{name}")
    return x, y


def _own_dataset(group: h5py.Group, name: str, where: str) -> h5py.Dataset:
    """Return a data set of this very file."""
    refuse_h5_link(group, name, where)
    if not isinstance(group.get(name), h5py.Dataset):
        raise DataError(f"has no data set {name!r}, only {sorted(group)}", where=where)
    return group[name]


def refuse_h5_link(parent: h5py.Group, name: str, where: str) -> None:
    """Raise DataError if ``name`` in ``parent`` is a link: it could lead to another file."""
    if name in parent and not isinstance(parent.get(name, getlink=True), h5py.HardLink):
        raise DataError(
            f"has a link {name!r} to somewhere else",
            where=where,
            remedy="Copy it into one file (h5repack does)",
        )


def _check_written(dataset: h5py.Dataset, where: str) -> None:
    """Refuse rows that were never written: they would read as zeros, as many as a header claims."""
    if dataset.chunks is None:
        # In one piece: all of it is stored, or none.
        whole = dataset.id.get_storage_size() >= dataset.size * dataset.dtype.itemsize
    else:
        if prod(dataset.chunks) * dataset.dtype.itemsize > _MOST_CHUNK_BYTES:
            raise DataError(
                f"has chunks of shape {dataset.chunks}, above {_MOST_CHUNK_BYTES:,} bytes",
                where=where,
                remedy="Store it in smaller chunks (h5repack does)",
            )
        sides = zip(dataset.shape, dataset.chunks, strict=True)
        whole = dataset.id.get_num_chunks() == prod(-(-size // chunk) for size, chunk in sides)
    if not whole:
        raise DataError(
            f"has rows that were never written (shape {dataset.shape})",
            where=where,
            remedy="Write all rows, or make the data set shorter",
        )
