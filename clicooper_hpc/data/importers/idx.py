"""The MNIST family: IDX files of grey images and labels, gzip-packed or not.

Layout (Y. LeCun, C. Cortes, C. Burges, "The MNIST database", data page): big-endian 32-bit magic
``00 00 08 nd`` (08: unsigned bytes, nd: number of dimensions), nd 32-bit sizes, then the values.
"""

from __future__ import annotations

import re
import struct
from math import prod
from pathlib import Path

import numpy as np

from clicooper_hpc.data.class_labels import numbered_class_names
from clicooper_hpc.data.importers.exact_reader import (
    BLOCK_BYTES,
    ExactReader,
    open_exact_reader,
    reader_errors,
)
from clicooper_hpc.data.sample_sink import SampleSink
from clicooper_hpc.errors import DataError

__all__ = ["import_idx"]

_NAME = re.compile(
    r"(?P<prefix>.*?)(?P<split>train|t10k|test)-(?P<what>images|labels)"
    r"[-.]idx(?P<dims>[13])-ubyte(?P<packed>\.gz)?"
)
# A damaged header could declare rows of gigabytes; real sets have 28 pixels a side.
_MAX_SIDE = 8192


def import_idx(source: Path, sink: SampleSink) -> tuple[str, ...]:
    """Stream the four files of ``source`` into ``sink``; return the class names "0", "1", ...

    Parameters
    ----------
    source
        Folder with ``[prefix]train-images-idx3-ubyte[.gz]``, ``...train-labels-idx1-ubyte[.gz]``
        and the same two with ``t10k`` or ``test``. Where a file is there packed and unpacked, the
        unpacked one is read.

    Raises
    ------
    DataError
        Naming file and byte: a file is missing or there are several sets, wrong magic number,
        images and labels differ in number, a file is cut short, too long or damaged.
    """
    files = _find_idx_files(source)
    for split in ("train", "test"):
        with (
            open_exact_reader(files[split, "images"]) as images,
            open_exact_reader(files[split, "labels"]) as labels,
        ):
            _copy_samples(split, images, labels, sink)
    return numbered_class_names(sink.highest_label)


def _find_idx_files(source: Path) -> dict[tuple[str, str], Path]:
    if not source.is_dir():
        raise DataError(
            "is not a folder", where=str(source), remedy="Give the folder with the four files"
        )
    with reader_errors(source.__str__):
        names = sorted(path.name for path in source.iterdir())
    files: dict[tuple[str, str], Path] = {}
    prefixes = set()
    # Packed names first, so that an unpacked file beside them takes their place.
    for name in sorted(names, key=lambda name: not name.endswith(".gz")):
        match = _NAME.fullmatch(name)
        if match:
            prefixes.add(match["prefix"])
            split = "train" if match["split"] == "train" else "test"
            files[split, match["what"]] = source / name
    # EMNIST unpacks to six sets in one folder; mixing files of two would go unnoticed.
    if len(prefixes) > 1:
        raise DataError(
            f"holds several sets: {', '.join(sorted(prefixes))}",
            where=str(source),
            remedy="Put the four files of one set into a folder of their own",
        )
    for split in ("train", "test"):
        for what, dims in (("images", 3), ("labels", 1)):
            if (split, what) not in files:
                stem = "train" if split == "train" else "t10k"
                raise DataError(
                    f"has no file {stem}-{what}-idx{dims}-ubyte[.gz]", where=str(source)
                )
    return files


def _read_idx_header(reader: ExactReader, dims: int) -> tuple[int, ...]:
    magic = reader.read(4)
    # The dimensions stand in the magic number, so images and labels cannot be exchanged.
    if magic != bytes((0, 0, 8, dims)):
        raise DataError(
            f"starts with {magic.hex(' ')}, expected 00 00 08 {dims:02x} "
            f"(unsigned bytes, {dims} dimensions)",
            where=f"{reader.where}, byte 0",
        )
    sizes: tuple[int, ...] = struct.unpack(f">{dims}I", reader.read(4 * dims))
    if 0 in sizes or any(side > _MAX_SIDE for side in sizes[1:]):
        raise DataError(f"declares the shape {sizes}", where=f"{reader.where}, byte 4")
    return sizes


def _copy_samples(split: str, images: ExactReader, labels: ExactReader, sink: SampleSink) -> None:
    count, *shape = _read_idx_header(images, 3)
    (labels_count,) = _read_idx_header(labels, 1)
    if count != labels_count:
        raise DataError(
            f"declares {count:,} images, but {labels.where} {labels_count:,} labels",
            where=f"{images.where}, byte 4",
        )
    row_bytes = prod(shape)
    step = max(1, BLOCK_BYTES // row_bytes)
    for start in range(0, count, step):
        rows = min(step, count - start)
        x = np.frombuffer(images.read(rows * row_bytes), dtype=np.uint8)
        y = np.frombuffer(labels.read(rows), dtype=np.uint8)
        # One channel, as all images of the native format have an axis for it.
        sink.append_samples(split, x.reshape(rows, *shape, 1), y.astype(np.int64))
    images.expect_end()
    labels.expect_end()
