"""The images of an attack: the owner's own, those an attacker may have, those held out to score.

The test split is cut into two fixed halves: one for attackers, one for scoring. Neither is trained
on. Vectors count as grey images: square ones where their length allows, else a single line.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from clicooper_hpc.attacks.harness.adversary import AuxiliaryData, LabelledImages
from clicooper_hpc.data.dataset import DataSet, open_dataset
from clicooper_hpc.data.split import Split
from clicooper_hpc.errors import DataError, UsageError

__all__ = [
    "auxiliary_images",
    "halve_test_images",
    "images_of_rows",
    "read_labelled_images",
    "read_public_images",
]

#: Images an attacker takes from a public data set, at most: more than any attack here needs.
PUBLIC_ROWS: Final = 20_000
#: Seed of the halves of the test split and of the choice of public images.
_SEED: Final = 0


def images_of_rows(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return rows float32 [n, *input shape] as images float32 [n, channels, height, width]."""
    if rows.ndim == 4:
        return rows
    width = rows.shape[1]
    side = math.isqrt(width)
    shape = (1, side, side) if side * side == width else (1, 1, width)
    return rows.reshape(len(rows), *shape)


def read_labelled_images(split: Split, ids: NDArray[np.int64]) -> LabelledImages:
    """Read the samples ``ids`` (int64 [n]) of a split."""
    return LabelledImages(images_of_rows(split.read(ids)), split.labels(ids))


def halve_test_images(test: Split) -> tuple[LabelledImages, LabelledImages]:
    """Return the attackers' half of the test split, and the half to score on.

    Raises
    ------
    DataError
        There is one test sample only.
    """
    if len(test) < 2:
        raise DataError("the test split has one sample, attacks need two halves", where=test.name)
    # A fixed seed, not the attack's: every attack, seed and share scores on the same images.
    order = np.random.default_rng(_SEED).permutation(len(test))
    middle = len(test) // 2
    return read_labelled_images(test, np.sort(order[:middle])), read_labelled_images(
        test, np.sort(order[middle:])
    )


def read_public_images(path: str | Path, private: DataSet, *, where: str) -> LabelledImages:
    """Read at most `PUBLIC_ROWS` images, drawn by chance, of a public data set.

    ``where`` is the option or key that names it.

    Raises
    ------
    UsageError
        It is the owner's own data set, or its images have another shape.
    DataError
        It cannot be read.
    """
    with open_dataset(path) as data:
        split = data.split("train")
        own = private.split("train")
        if split.input_shape != own.input_shape:
            raise UsageError(
                f"its rows have shape {split.input_shape}, the owner's {own.input_shape}",
                where=f"{where} {path}",
                remedy="Give a public data set of the same shape.",
            )
        # Attackers that hold the very training images would reconstruct them from memory.
        if split.fingerprint() == own.fingerprint():
            raise UsageError(
                "this is the owner's own data set",
                where=f"{where} {path}",
                remedy="Give a data set that holds none of the owner's samples.",
            )
        chosen = np.random.default_rng(_SEED).permutation(len(split))[:PUBLIC_ROWS]
        return read_labelled_images(split, np.sort(chosen))


def auxiliary_images(
    private: DataSet, same: LabelledImages, *, public: str | Path | None, of_job: str | None
) -> tuple[AuxiliaryData, str]:
    """Return what attackers have besides, and a line that says what public data that is.

    ``public`` was asked for, and must be usable; ``of_job`` is what the job names, and is left out
    where it is not there any more, or is the owner's own data.
    """
    if public is not None:
        images = read_public_images(public, private, where="--public")
        return AuxiliaryData(same, images), f"{len(images)} images of {Path(public).stem}"
    if of_job is None:
        return AuxiliaryData(same, None), "none"
    try:
        images = read_public_images(of_job, private, where="front.public_data")
    # The job's public data may be gone since: attacks without it are still worth having.
    except (UsageError, DataError) as error:
        return AuxiliaryData(same, None), f"none ({error.line()})"
    return AuxiliaryData(same, images), f"{len(images)} images of {Path(of_job).stem}"
