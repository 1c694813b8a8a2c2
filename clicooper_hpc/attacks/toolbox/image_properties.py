"""Properties of images that are not their class: brightness, dominant colour."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

__all__ = ["ImageProperty", "image_properties"]


@dataclass(frozen=True, slots=True)
class ImageProperty:
    """A property of an image: ``of`` maps float32 [n, channels, height, width] to int64 [n]."""

    name: str
    values: int
    of: Callable[[NDArray[np.float32]], NDArray[np.int64]]


def image_properties(images: NDArray[np.float32]) -> tuple[ImageProperty, ...]:
    """Return the properties to look for, thresholds taken from the attacker's ``images``."""
    # Of the attacker's images: the owner's median is not known.
    median = float(np.median(_brightness(images)))
    found = [ImageProperty("brightness above median", 2, partial(_brighter, median=median))]
    if images.shape[1] == 3:
        found.append(ImageProperty("dominant colour channel", 3, _dominant))
    return tuple(found)


def _brightness(images: NDArray[np.float32]) -> NDArray[np.float64]:
    return np.asarray(images.mean(axis=(1, 2, 3), dtype=np.float64))


def _brighter(images: NDArray[np.float32], median: float) -> NDArray[np.int64]:
    return (_brightness(images) > median).astype(np.int64)


def _dominant(images: NDArray[np.float32]) -> NDArray[np.int64]:
    # In float64: equal channels shall not differ by rounding.
    means = images.mean(axis=(2, 3), dtype=np.float64)
    return np.asarray(means.argmax(axis=1), dtype=np.int64)
