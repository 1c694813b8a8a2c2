"""Sums of rows by class, noised once, paid for by samples that are never released.

**Mechanism.** Each row is clipped to norm C and cut towards zero to integer multiples of the grid,
exactly as a released row is; the integers of a class are added up, and the K sums, stacked to
[K, p], get the rounded Gaussian noise of `privacy.noise`, class k from the stream of id k.

**Sensitivity.** Each sample enters one sum with an integer row of norm at most C / g, whatever its
label. Replacing it by another row and label moves one sum by at most 2 C, or two sums by at most C
each, so sqrt(2) C; the stack moves by at most 2 C. Replacing it by the zero row moves it by at most
C. These are the sensitivities of a released row, so the same guarantee is solved for the noise.
Labels are covered: they say only which sum a row enters. The sums are exact integers, so nothing is
added for the grid or for floating point.

**Parallel composition** (McSherry, "Privacy integrated queries", SIGMOD 2009, Theorem 4). Which
samples are spent is drawn by a keyed permutation of their numbers, independent of their content. A
spent sample enters the sums and nothing else; every other sample is released as a row and enters no
sum. Given the draw, replacing a spent sample changes the distribution of the sums alone, and what
is computed from them is post-processing; replacing a released one changes its own row alone. So
each sample pays once. True class counts would be another query: use the expected number instead.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from clicooper_hpc.digests import Digest
from clicooper_hpc.privacy.clipping import clip_to_grid
from clicooper_hpc.privacy.noise import NoiseStream, ReleaseContext
from clicooper_hpc.privacy.release_spec import ReleaseSpec
from clicooper_hpc.privacy.sensitivity import Guarantee, Relation

__all__ = [
    "class_sums_context",
    "class_sums_guarantee",
    "exact_class_sums",
    "grid_class_sums",
    "noised_class_sums",
]


def class_sums_guarantee(
    dimension: int, *, epsilon: float, delta: float, relation: Relation
) -> Guarantee:
    """Return the promise to a spent sample: rows float32 ``[dimension]`` of norm at most 1."""
    return Guarantee("sample", relation, 1.0, dimension, epsilon, delta)


def class_sums_context(front: Digest, data: Digest, spec: ReleaseSpec) -> ReleaseContext:
    """Return what the release of all samples' sums is: of these rows, with this mechanism."""
    return ReleaseContext("class sums of all", front, data, spec)


def grid_class_sums(
    rows: NDArray[Any], classes: NDArray[np.int64], num_classes: int, spec: ReleaseSpec
) -> NDArray[np.int64]:
    """Return the sums of rows by class in grid steps, without noise: int64 [num_classes, p].

    Parts of the samples may be summed by themselves and added up.

    Parameters
    ----------
    rows
        float32 or float64 [n, p]; clipped here.
    classes
        int64 [n] in [0, num_classes).
    spec
        Solved for `class_sums_guarantee`.

    Raises
    ------
    DataError
        When a row holds NaN or infinity.
    """
    # The argument at the head of this file moves whole samples; an element or metric unit would
    # understate it.
    if spec.guarantee.unit != "sample":
        raise ValueError(f"class sums cost a whole sample, not unit {spec.guarantee.unit!r}")
    _check(classes, len(rows), num_classes)
    sums = np.zeros((num_classes, rows.shape[1]), dtype=np.int64)
    np.add.at(sums, classes, clip_to_grid(rows, spec))
    return sums


def noised_class_sums(sums: NDArray[np.int64], stream: NoiseStream) -> NDArray[np.float64]:
    """Return the sums with noise, float64 [num_classes, p] in units of the rows.

    The same bits whenever sums, key and context are the same. Never draw for other sums with the
    same context: their difference would have no noise.
    """
    # The K sums stand where samples do in a release, so class numbers are the ids of their noise.
    noise = stream.draw_noise(np.arange(len(sums), dtype=np.int64))
    # |n| < 2^24 a row, so sums of fewer than 2^29 samples are exact in float64.
    return (sums + noise).astype(np.float64) * np.float64(stream.context.spec.grid)


def exact_class_sums(
    rows: NDArray[Any], classes: NDArray[np.int64], num_classes: int
) -> NDArray[np.float64]:
    """Return the sums of rows by class, float64 [num_classes, p]: privacy off, no guarantee."""
    _check(classes, len(rows), num_classes)
    sums = np.zeros((num_classes, rows.shape[1]))
    np.add.at(sums, classes, rows.astype(np.float64))
    return sums


def _check(classes: NDArray[np.int64], rows: int, num_classes: int) -> None:
    if classes.shape != (rows,):
        raise ValueError(f"{rows} rows, but classes of shape {list(classes.shape)}")
    if rows and not 0 <= int(classes.min()) <= int(classes.max()) < num_classes:
        raise ValueError(f"classes must lie in [0, {num_classes})")
