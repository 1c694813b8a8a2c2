"""Image files as they lie in a folder, to be answered for one by one: no splits, labels or not."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clicooper_hpc.data.importers.exact_reader import BLOCK_BYTES
from clicooper_hpc.data.importers.image_folder import (
    decode_image,
    open_image,
    read_image_header,
)
from clicooper_hpc.data.importers.image_tree import IMAGE_ENDINGS, folder_entries
from clicooper_hpc.data.sample_sink import SampleSink
from clicooper_hpc.errors import DataError

__all__ = ["is_image_file", "list_image_files", "read_image_files"]


def is_image_file(path: Path) -> bool:
    """Whether the name of ``path`` ends as those of images do."""
    return path.suffix.lower() in IMAGE_ENDINGS


def list_image_files(source: Path) -> list[Path]:
    """Return an image, or all images below a folder, in the order of their paths.

    Raises
    ------
    DataError
        There is no image, or a file that is none.
    """
    if source.is_file():
        return [source]
    found: list[Path] = []
    for path in folder_entries(source):
        # Links are not followed: one could lead back up.
        if path.is_dir() and not path.is_symlink():
            found += list_image_files(path)
        # Refused, not skipped: a format we do not know would quietly be left without an answer.
        elif not is_image_file(path):
            raise DataError(
                "is not an image",
                where=str(path),
                remedy=f"Give a folder of images alone ({', '.join(sorted(IMAGE_ENDINGS))})",
            )
        else:
            found.append(path)
    return found


def read_image_files(
    paths: Sequence[Path],
    sink: SampleSink,
    *,
    split: str,
    shape: tuple[int, int, int],
    size: int | None,
    class_names: Sequence[str],
) -> None:
    """Stream images into ``sink`` as one split, with the number of their class as label.

    The class of an image is the name of its folder, if that is one of ``class_names``; else its
    label is -1.

    Parameters
    ----------
    shape
        (H, W, channels) that every image must have; with one channel, none may be in colour.
    size
        As in `clicooper_hpc.data.importers.image_folder.import_image_folder`.

    Raises
    ------
    DataError
        Naming the first file that is damaged, in colour where grey ones are wanted, or of another
        size.
    """
    numbers = {name: number for number, name in enumerate(class_names)}
    step = max(1, BLOCK_BYTES // prod(shape))
    for start in range(0, len(paths), step):
        part = paths[start : start + step]
        images = [_decode_as(path, shape, size) for path in part]
        labels = [numbers.get(path.parent.name, -1) for path in part]
        sink.append_samples(split, np.stack(images), np.asarray(labels, dtype=np.int64))


def _decode_as(path: Path, shape: tuple[int, int, int], size: int | None) -> NDArray[np.uint8]:
    height, width, channels = shape
    stored_grey, _ = read_image_header(path)
    if channels == 1 and not stored_grey:
        _refuse_colour(path)
    image = decode_image(path, grey=channels == 1, size=size)
    if image.shape != shape:
        raise DataError(
            f"is {image.shape[1]}x{image.shape[0]} pixels, the model takes {width}x{height}",
            where=str(path),
            remedy=f"Give --size {width} to cut and scale every image"
            if width == height
            else "Scale the images as the training images were",
        )
    return image


def _refuse_colour(path: Path) -> None:
    with open_image(path) as image:
        # A picture saved in colour may well be grey all over.
        bands = image.convert("RGB").split()
        coloured = any(one.tobytes() != bands[0].tobytes() for one in bands[1:])
    if coloured:
        raise DataError(
            "is in colour, the model takes grey images",
            where=str(path),
            remedy="Convert it to grey as the training images were",
        )
