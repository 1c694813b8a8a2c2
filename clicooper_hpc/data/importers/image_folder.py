"""Folders of image files, read with Pillow, one image in memory at a time (plus one block)."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clicooper_hpc.data.importers.exact_reader import BLOCK_BYTES, open_source_file
from clicooper_hpc.data.importers.image_tree import list_image_tree
from clicooper_hpc.data.sample_sink import SampleSink
from clicooper_hpc.errors import DataError

__all__ = ["decode_image", "import_image_folder", "open_image", "read_image_header"]

_GREY = frozenset(("1", "L", "LA", "La"))
_COLOUR = frozenset(("RGB", "RGBA", "RGBX", "RGBa", "P", "PA", "CMYK", "YCbCr", "LAB", "HSV"))


def import_image_folder(
    source: Path, sink: SampleSink, *, size: int | None = None
) -> tuple[str, ...]:
    """Write all images of ``source`` to ``sink``; return the class names (folder names).

    If every image is grey, rows are (H, W, 1); otherwise all become (H, W, 3) RGB.

    Parameters
    ----------
    source
        See `list_image_tree`.
    size
        Cut the largest square out of every image's middle and scale it (bicubic) to so many
        pixels a side. None: all images must have the same size already.

    Raises
    ------
    DataError
        Naming the first file that is damaged, has another size than the others, is not a still
        picture of 8 bits a channel, or is partly transparent.
    """
    tree = list_image_tree(source)
    everything = [path for part in tree.splits.values() for path, _ in part]
    # Headers first: whether all images are grey, and of one size, decides the shape of every row.
    grey = _survey_headers(everything, check_size=size is None)
    for split, part in tree.splits.items():
        pending: list[NDArray[np.uint8]] = []
        labels: list[int] = []
        for path, label in part:
            pending.append(decode_image(path, grey=grey, size=size))
            labels.append(label)
            # Written block by block: a data set of images need not fit into memory.
            if len(pending) * pending[0].nbytes >= BLOCK_BYTES:
                _append_pending(split, pending, labels, sink)
        if pending:
            _append_pending(split, pending, labels, sink)
    return tree.class_names


def _append_pending(
    split: str, pending: list[NDArray[np.uint8]], labels: list[int], sink: SampleSink
) -> None:
    sink.append_samples(split, np.stack(pending), np.asarray(labels, dtype=np.int64))
    pending.clear()
    labels.clear()


@contextmanager
def open_image(path: Path) -> Iterator[Image.Image]:
    """Open an image; what Pillow raises on damaged files becomes one DataError naming the file."""
    try:
        with warnings.catch_warnings():
            # An image of 90 to 180 million pixels only warns; one that large is a mistake here.
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with open_source_file(path) as file, Image.open(file) as image:
                yield image
    except DataError:
        raise
    # Its decoders raise whatever damaged numbers lead to: KeyError, ZeroDivisionError, and so on.
    except Exception as error:
        reason = str(error) or type(error).__name__
        raise DataError(f"cannot be read as an image ({reason})", where=str(path)) from error


def _survey_headers(paths: list[Path], *, check_size: bool) -> bool:
    """Look at every header; return whether all images are grey."""
    grey = True
    first: tuple[Path, tuple[int, int]] | None = None
    for path in paths:
        image_grey, image_size = read_image_header(path)
        first = first or (path, image_size)
        if check_size and image_size != first[1]:
            raise DataError(
                f"is {image_size[0]}x{image_size[1]} pixels, "
                f"but {first[0]} is {first[1][0]}x{first[1][1]}",
                where=str(path),
                remedy="Give --size to scale all images to one size",
            )
        grey = grey and image_grey
    return grey


def read_image_header(path: Path) -> tuple[bool, tuple[int, int]]:
    """Return whether an image is stored as grey, and its width and height.

    Raises
    ------
    DataError
        It is damaged, or not a still picture of 8 bits a channel.
    """
    with open_image(path) as image:
        mode, size, frames = image.mode, image.size, getattr(image, "n_frames", 1)
    if mode not in _GREY | _COLOUR:
        raise DataError(f"has pixels of kind {mode}, not 8 bits a channel", where=str(path))
    # An animation or a multi-page TIFF: which of its pictures is meant cannot be known.
    if frames != 1:
        raise DataError(f"holds {frames} pictures", where=str(path))
    return mode in _GREY, size


def decode_image(path: Path, *, grey: bool, size: int | None) -> NDArray[np.uint8]:
    """Decode one image to (H, W, 1) or (H, W, 3)."""
    with open_image(path) as image:
        image.load()
        # A file may declare transparency and not use it; only pixels that show through are refused.
        opaque = not image.has_transparency_data or _is_opaque(image)
        picture = image.convert("L" if grey else "RGB")
        if size is not None:
            picture = _cut_square(picture, size)
        pixels = np.asarray(picture, dtype=np.uint8)
    if not opaque:
        raise DataError(
            "is partly transparent", where=str(path), remedy="Give it a background colour"
        )
    # The format knows no (n, H, W).
    return pixels[..., None] if grey else pixels


def _is_opaque(image: Image.Image) -> bool:
    return image.convert("RGBA").getchannel("A").getextrema() == (255, 255)


def _cut_square(picture: Image.Image, size: int) -> Image.Image:
    width, height = picture.size
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    # Cut first: resize(box=...) would let pixels outside the square bleed into its edge.
    square = picture.crop((left, top, left + side, top + side))
    return square.resize((size, size), Image.Resampling.BICUBIC)
