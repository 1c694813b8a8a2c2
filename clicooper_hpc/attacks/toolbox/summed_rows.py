"""Rows of images as the owner adds them up to class sums and moments."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from clicooper_hpc.attacks.harness.adversary import AdversaryView, LabelledImages
from clicooper_hpc.attacks.harness.public_mechanism import public_clip
from clicooper_hpc.attacks.harness.summed_release import SummedRelease

__all__ = ["LabelledRows", "class_sizes", "summed_rows"]

_IMAGES: Final = 1024


@dataclass(frozen=True, slots=True, eq=False)
class LabelledRows:
    """Rows float64 [n, p] as they are summed up, and their classes int64 [n]."""

    rows: NDArray[np.float64]
    classes: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.classes)

    def take(self, at: NDArray[np.int64]) -> LabelledRows:
        """Return those at places int64 [m]."""
        return LabelledRows(self.rows[at], self.classes[at])


def class_sizes(release: SummedRelease, classes: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return how many samples are of each class, at least 1: float64 [K].

    As released; where sizes were not, in the shares of ``classes`` int64 [n] of the attacker's own.
    """
    if release.sizes is not None:
        # Noised sizes may be small or negative.
        return np.maximum(release.sizes, 1.0)
    shares = np.bincount(classes, minlength=len(release.sums)) / len(classes)
    return np.maximum(release.samples * shares, 1.0)


def summed_rows(view: AdversaryView, images: LabelledImages) -> LabelledRows:
    """Return the rows of ``images`` as the owner adds them up: clipped, and cut to the grid."""
    if view.front is None:
        raise ValueError("whose rows are summed up is known behind a public front alone")
    clip = public_clip(view.mechanism.spec)
    parts = []
    for start in range(0, len(images), _IMAGES):
        rows = view.front(images.images[start : start + _IMAGES])
        parts.append(clip(rows.reshape(len(rows), -1)).astype(np.float64))
    whole = np.concatenate(parts)
    # With privacy off only moments are of clipped rows.
    if view.mechanism.spec is None and view.release != "sums":
        whole = whole / np.maximum(np.linalg.norm(whole, axis=1, keepdims=True), 1.0)
    return LabelledRows(whole, images.classes)
