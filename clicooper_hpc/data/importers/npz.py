"""NumPy archives with `x_train`, `y_train`, `x_test`, `y_test` (Keras' `mnist.npz`, for one).

Members are read as streams, so an archive may be larger than memory. Pickled members are refused.
"""

from __future__ import annotations

import sys
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clicooper_hpc.data.class_labels import (
    MAX_CLASSES,
    check_class_labels,
    check_class_names,
    numbered_class_names,
)
from clicooper_hpc.data.h5_format import SPLITS
from clicooper_hpc.data.importers.exact_reader import (
    BLOCK_BYTES,
    ExactReader,
    open_source_file,
    reader_errors,
)
from clicooper_hpc.data.sample_sink import SampleSink
from clicooper_hpc.errors import DataError

__all__ = ["UNSPLIT", "import_npz", "read_npz_split"]

UNSPLIT = "test"
"""Split that samples without splits are."""

# A wrong shape in a header must not allocate more than this for one row.
_MAX_ROW_BYTES = 256 * 1024 * 1024
_MAX_NAMES_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class _NpyMember:
    """An opened .npy member: its header, and its values still to be read."""

    reader: ExactReader
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def read_rows(self, count: int) -> NDArray[Any]:
        """Read the next ``count`` rows."""
        shape = (count, *self.shape[1:])
        content = self.reader.read(prod(shape) * self.dtype.itemsize)
        return np.frombuffer(content, dtype=self.dtype).reshape(shape)


def import_npz(source: Path, sink: SampleSink) -> tuple[str, ...]:
    """Stream ``source`` into ``sink``; return the class names.

    Parameters
    ----------
    source
        ``.npz`` with images (n, H, W), (n, H, W, C) or vectors (n, D) of uint8 or float, integer
        labels (n,) or (n, 1), and optionally the strings `class_names` (K,).

    Raises
    ------
    DataError
        Naming file, member and byte or row: a member is missing, pickled, damaged, of a shape or
        dtype that does not fit; labels and rows differ in number; a value is not finite.
    """
    with _open_archive(source) as archive:
        for split in ("train", "test"):
            with (
                _open_npy_member(archive, source, f"x_{split}") as x,
                _open_npy_member(archive, source, f"y_{split}") as y,
            ):
                _copy_samples(split, x, y, sink)
        names = numbered_class_names(sink.highest_label)
        if "class_names.npy" in archive.namelist():
            names = _read_class_names(archive, source)
    return names


def read_npz_split(source: Path, split: str, sink: SampleSink) -> tuple[str, ...] | None:
    """Stream one split of ``source`` into ``sink``, whether or not it has labels.

    Members are `x_SPLIT` and perhaps `y_SPLIT`, as in `import_npz`; in an archive without splits,
    `x` and perhaps `y`, all of which are the split `UNSPLIT`. Rows without a label have label -1.

    Returns
    -------
    tuple of str, or None
        Names of the classes; None where there are no labels or no names.

    Raises
    ------
    DataError
        As `import_npz`; or class names are empty, repeat or are fewer than the labels need.
    """
    with _open_archive(source) as archive:
        names = None
        # First: what is wrong with them is said before a row is answered.
        if "class_names.npy" in archive.namelist():
            names = _read_class_names(archive, source)
            check_class_names(names, f"{source}, member class_names.npy")
        end = f"_{split}"
        # Splits win: `x` beside them may be anything.
        if not _has_splits(archive) and "x.npy" in archive.namelist():
            if split != UNSPLIT:
                raise DataError(f"has no split {split!r}, no splits at all", where=str(source))
            end = ""
        with ExitStack() as opened:
            x = opened.enter_context(_open_npy_member(archive, source, f"x{end}"))
            y = None
            if f"y{end}.npy" in archive.namelist():
                y = opened.enter_context(_open_npy_member(archive, source, f"y{end}"))
            _copy_samples(split, x, y, sink, num_classes=len(names) if names else MAX_CLASSES)
    return None if y is None else names


def _has_splits(archive: zipfile.ZipFile) -> bool:
    return any(f"x_{split}.npy" in archive.namelist() for split in SPLITS)


@contextmanager
def _open_archive(source: Path) -> Iterator[zipfile.ZipFile]:
    with open_source_file(source) as file:
        with reader_errors(source.__str__):
            archive = zipfile.ZipFile(file)
        with archive:
            yield archive


@contextmanager
def _open_npy_member(archive: zipfile.ZipFile, source: Path, name: str) -> Iterator[_NpyMember]:
    where = f"{source}, member {name}.npy"
    if f"{name}.npy" not in archive.namelist():
        raise DataError(
            f"has no member {name}.npy, only {', '.join(archive.namelist())[:200] or 'none'}",
            where=str(source),
        )
    with reader_errors(where.__str__):
        stream = archive.open(f"{name}.npy")
    with stream:
        reader = ExactReader(stream, where)
        shape, dtype = _read_npy_header(reader)
        yield _NpyMember(reader, shape, dtype)


def _read_npy_header(reader: ExactReader) -> tuple[tuple[int, ...], np.dtype[Any]]:
    readers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    try:
        version = np.lib.format.read_magic(reader)  # type: ignore[arg-type]
        if version not in readers:
            raise ValueError(f"format version {version}")
        shape, fortran, dtype = readers[version](reader)  # type: ignore[arg-type]
    except DataError:
        raise
    # NumPy reads the header as a Python literal: SyntaxError, TokenError, SystemError, and so on.
    except Exception as error:
        raise DataError(f"is not a .npy array ({error})", where=reader.position()) from error
    # NumPy takes any integers, also those that Python cannot print.
    if not all(type(size) is int and 0 <= size < 2**63 for size in shape) or len(shape) > 32:
        raise DataError("has an impossible shape", where=reader.where)
    # Before any value is read: NumPy would unpickle objects, which runs code of the file's author.
    if dtype.hasobject:
        raise DataError(
            "is pickled, which can run code when read, and is refused",
            where=reader.where,
            remedy="Save plain numbers and strings",
        )
    # Column order cannot be streamed row by row.
    if fortran and len(shape) > 1:
        raise DataError(
            "is stored column by column",
            where=reader.where,
            remedy="Save numpy.ascontiguousarray(...) of it",
        )
    return shape, dtype


def _row_shape(x: _NpyMember) -> tuple[int, ...]:
    """Return (D,) or (H, W, C), or raise DataError."""
    shape = x.shape[1:]
    if x.dtype != np.uint8 and x.dtype.kind != "f":
        raise DataError(
            f"has dtype {x.dtype}", where=x.reader.where, remedy="Save uint8 or float32"
        )
    if len(shape) not in (1, 2, 3) or 0 in x.shape:
        raise DataError(f"has shape {x.shape}", where=x.reader.where)
    # PyTorch users save (n, C, H, W), which would pass as images of C rows and W channels.
    if len(shape) == 3 and shape[0] in (1, 3, 4) and shape[2] > 4:
        raise DataError(
            f"has shape {x.shape}, which looks like channels first",
            where=x.reader.where,
            remedy="Save images as (n, height, width, channels)",
        )
    if prod(shape) * x.dtype.itemsize > _MAX_ROW_BYTES:
        raise DataError(f"has rows of shape {shape}: too large", where=x.reader.where)
    return (*shape, 1) if len(shape) == 2 else shape


def _copy_samples(
    split: str,
    x: _NpyMember,
    y: _NpyMember | None,
    sink: SampleSink,
    *,
    num_classes: int = MAX_CLASSES,
) -> None:
    row_shape = _row_shape(x)
    count = x.shape[0]
    if y is not None and (y.dtype.kind not in "iu" or y.shape not in ((count,), (count, 1))):
        raise DataError(
            f"has dtype {y.dtype} and shape {y.shape}, labels of {count:,} rows are integers of "
            f"shape ({count},)",
            where=y.reader.where,
        )
    step = max(1, BLOCK_BYTES // (prod(row_shape) * x.dtype.itemsize))
    for start in range(0, count, step):
        rows = min(step, count - start)
        values = x.read_rows(rows).reshape(rows, *row_shape)
        if values.dtype != np.uint8:
            # NaN would pass clip and noise and spoil every release it touches.
            values = _finite_float32(values, x.reader.where, start)
        labels = np.full(rows, -1, dtype=np.int64)
        if y is not None:
            # Keras saves labels of CIFAR as (n, 1).
            stored = y.read_rows(rows).reshape(rows)
            check_class_labels(stored, y.reader.where, first_row=start, num_classes=num_classes)
            labels = stored.astype(np.int64)
        sink.append_samples(split, values, labels)
    for member in (x, y):
        if member is not None:
            member.reader.expect_end()


def _finite_float32(values: NDArray[Any], where: str, first_row: int) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):  # an overflow becomes infinite and is found below
        narrow = values.astype(np.float32)
    bad = np.flatnonzero(~np.isfinite(narrow).reshape(len(narrow), -1).all(axis=1))
    if len(bad):
        raise DataError(
            "holds a value that is not a finite float32",
            where=f"{where}, row {first_row + int(bad[0])}",
        )
    return narrow


def _read_class_names(archive: zipfile.ZipFile, source: Path) -> tuple[str, ...]:
    with _open_npy_member(archive, source, "class_names") as array:
        size = prod(array.shape) * array.dtype.itemsize
        # Strings of no characters have no bytes to read.
        fits = array.dtype.itemsize and 0 < size <= _MAX_NAMES_BYTES
        if array.dtype.kind != "U" or len(array.shape) != 1 or not fits:
            raise DataError(
                f"has dtype {array.dtype} and shape {array.shape}, expected strings of shape (K,)",
                where=array.reader.where,
            )
        rows = array.read_rows(array.shape[0])
        # NumPy keeps characters as any 32 bits; Python has none above this.
        if (rows.view(rows.dtype.str[0] + "u4") > sys.maxunicode).any():
            raise DataError("has a text that is no Unicode", where=array.reader.where)
        names = tuple(str(name) for name in rows)
        array.reader.expect_end()
    return names
