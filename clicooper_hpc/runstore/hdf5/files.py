"""HDF5 files as a run makes them: fixed-length text, named dimensions, safe on a full disk.

All files are written with `LIBVER`, which HDF5 1.10 and later read; ``"latest"`` would lock older
readers out. Locks are off: every file has one writer by construction (files are made exclusively),
and on file systems without a lock service a lock would be refused.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from clicooper_hpc.errors import EnvironmentUnfitError
from clicooper_hpc.runstore.atomic_files import replace_atomically
from clicooper_hpc.runstore.hdf5.characters import (
    CHARACTER,
    ENCODING,
    attach_character_scale,
    texts_to_characters,
)
from clicooper_hpc.runstore.hdf5.superblock import SUPERBLOCK_BYTES, closed_superblock

__all__ = [
    "LIBVER",
    "SINGLE_LIBVER",
    "Attribute",
    "abandon_hdf5_file",
    "add_hdf5_dataset",
    "create_hdf5_file",
    "hdf5_error_line",
    "hdf5_text",
    "hdf5_version",
    "hdf5_write_error",
    "nexus_attributes",
    "open_swmr_file",
    "set_hdf5_attributes",
]

LIBVER = "v110"
#: For a file several ranks write: superblock 2 carries no "open for write" flag, so that a killed
#: run leaves a file any program opens.
SINGLE_LIBVER = ("v108", "v110")

Attribute = str | int | float | bool


def hdf5_version() -> str:
    """Return the version of the HDF5 library that h5py runs on."""
    return str(h5py.version.hdf5_version)


def hdf5_text(value: str) -> np.ndarray[Any, Any]:
    """Return ``value`` as a scalar of fixed-length UTF-8, the only kind of text we store."""
    # Text of variable length lies in HDF5's global heap, which no checksum covers. Length 0 is
    # refused by HDF5.
    raw = value.encode("utf-8")
    return np.array(raw, dtype=h5py.string_dtype("utf-8", max(1, len(raw))))


def set_hdf5_attributes(target: Any, values: Mapping[str, Attribute]) -> None:
    """Store ``values`` as attributes of the file, group or dataset ``target``."""
    for name, value in values.items():
        if isinstance(value, bool):
            # One byte, the only attributes of that type: netCDF-C leaves out HDF5's truth values.
            target.attrs[name] = np.uint8(value)
        else:
            target.attrs[name] = hdf5_text(value) if isinstance(value, str) else value


def nexus_attributes(axis: str, *signals: str) -> dict[str, Attribute]:
    """Return the attributes by which viewers plot ``signals``, two at most, over ``axis``.

    NeXus NXdata, with texts only, no lists; nothing without a signal.
    """
    names = ("signal", "auxiliary_signals")
    plotted = dict(zip(names, signals, strict=False))
    return {"NX_class": "NXdata", "axes": axis, **plotted} if plotted else {}


def add_hdf5_dataset(
    parent: Any, name: str, values: Any, *, units: str, long_name: str, axis: Any = None
) -> Any:
    """Add a small dataset, text as fixed-length UTF-8; ``axis`` is the scale of dimension 0."""
    is_texts = isinstance(values, list | tuple) and all(isinstance(one, str) for one in values)
    if isinstance(values, str):
        data = hdf5_text(values)
    elif is_texts:
        raw = [value.encode("utf-8") for value in values]
        texts = np.array(raw, dtype=f"S{max([1, *map(len, raw)])}")
        data = texts_to_characters(texts).astype(CHARACTER)
    else:
        data = np.asarray(values)
    # A checksum needs a chunk, and a chunk needs at least one element.
    dataset = parent.create_dataset(name, data=data, fletcher32=data.size > 0 and data.ndim > 0)
    set_hdf5_attributes(dataset, {"units": units, "long_name": long_name})
    if axis is not None:
        dataset.dims[0].label = Path(axis.name).name
        dataset.dims[0].attach_scale(axis)
    if is_texts:
        set_hdf5_attributes(dataset, ENCODING)
        attach_character_scale(dataset, parent)
    return dataset


def open_swmr_file(path: Path) -> Any:
    """Open an existing file of ours as its single writer, with readers allowed from the start."""
    access = h5py.h5p.create(h5py.h5p.FILE_ACCESS)
    access.set_libver_bounds(h5py.h5f.LIBVER_V110, h5py.h5f.LIBVER_V110)
    # STRONG: objects still open must not keep the file open behind our back.
    access.set_fclose_degree(h5py.h5f.CLOSE_STRONG)
    access.set_file_locking(False, True)
    # Not mode "r+" and then swmr_mode: in between the file would refuse readers.
    flags = h5py.h5f.ACC_RDWR | h5py.h5f.ACC_SWMR_WRITE
    return h5py.File(h5py.h5f.open(os.fsencode(path), flags, fapl=access))


@contextmanager
def create_hdf5_file(
    path: Path,
    libver: Any = LIBVER,
    *,
    start: Path | None = None,
    mode: int | None = None,
    foreign_folder: bool = False,
) -> Iterator[Any]:
    """Compose an HDF5 file in memory; at the end of the block it becomes ``path`` in one step.

    With ``start`` the file begins as a copy of that one; ``mode`` is that of the new file, where it
    shall not be the usual one; ``foreign_folder`` as of `replace_atomically`.
    `EnvironmentUnfitError` if the file system is full or refuses; what was at ``path`` is then
    untouched. In memory, because HDF5 loses data without an error when a dataset is closed on a
    full disk.
    """
    name, access = (start, "r+") if start else (path.with_name(f"{path.name}.memory"), "w")
    with h5py.File(
        name, access, driver="core", backing_store=False, libver=libver, locking=False
    ) as file:
        yield file
        file.flush()
        image = file.id.get_file_image()
    # Only now the disk: up to here an error leaves nothing behind.
    try:
        with replace_atomically(path, foreign_folder=foreign_folder) as aside:
            if mode is not None:
                # Before the content: it must not be readable for a moment.
                aside.touch(mode)
            # HDF5 1.10 takes the mark of an open file out of an image, but leaves its checksum.
            aside.write_bytes(closed_superblock(image) + image[SUPERBLOCK_BYTES:])
    except OSError as error:
        raise hdf5_write_error(path, error) from error


def abandon_hdf5_file(file: Any) -> None:
    """Close ``file`` after a failed write, leaving on disk exactly what is there now.

    HDF5 keeps what it could not write and tries again at every close and at the end of the
    process, with pages of messages and at last a crash. So its descriptor is pointed to memory:
    HDF5 writes the rest there in peace. Until then every written dataset must be held open.
    """
    # Memory, as the disk is what failed; it is gone with the descriptor.
    scratch = os.memfd_create("clicooper-abandoned")
    with suppress(OSError, RuntimeError, ValueError):
        if file:
            os.dup2(scratch, file.id.get_vfd_handle())
            file.close()
    os.close(scratch)


def hdf5_write_error(path: Path, error: Exception) -> EnvironmentUnfitError:
    """Turn what HDF5 or the system says about a failed write into the error the user sees."""
    # HDF5 gives the system's number in its text only, deep in a stack of messages.
    found = re.search(r"errno = (\d+)", str(error))
    number = int(found.group(1)) if found else getattr(error, "errno", None)
    reason = os.strerror(number) if number else hdf5_error_line(error)
    return EnvironmentUnfitError(
        f"writing failed ({reason}); what was flushed before can be read",
        where=str(path),
        remedy="Free space or quota on the file system of the run, then start again.",
    )


def hdf5_error_line(error: Exception) -> str:
    """Return the first line of what HDF5 says: behind it comes a stack of C functions."""
    return (str(error).splitlines() or [type(error).__name__])[0]
