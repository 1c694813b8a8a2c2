"""Makes what leaves in the release modes that sum up all samples.

The private samples enter here and nowhere else: their rows behind the public front are summed up
and noised once. From the noised sums alone come public rows in their likeness, a linear model, and
the names it gives those rows: post-processing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from clicooper_hpc.config.owner_sections import ReleaseMode
from clicooper_hpc.data.split import Split
from clicooper_hpc.digests import Digest, digest_bytes
from clicooper_hpc.errors import UsageError
from clicooper_hpc.fronts.front import Front
from clicooper_hpc.fronts.operations import Scores
from clicooper_hpc.fronts.private_lda import fit_private_lda
from clicooper_hpc.fronts.recolouring import fit_recolouring
from clicooper_hpc.owner.evaluation import MomentBaselines
from clicooper_hpc.owner.moment_model import MomentModel, choose_names, fit_moment_model
from clicooper_hpc.owner.moments_release import MomentsRelease
from clicooper_hpc.owner.synthetic_rows import SyntheticRows, mixed_rows
from clicooper_hpc.privacy.class_sums import (
    class_sums_context,
    class_sums_guarantee,
    exact_class_sums,
    grid_class_sums,
    noised_class_sums,
)
from clicooper_hpc.privacy.master_key import MasterKey
from clicooper_hpc.privacy.moments import (
    MOST_MOMENT_NUMBERS,
    Moments,
    MomentSums,
    moments_context,
    noised_moments,
    solve_moments_spec,
)
from clicooper_hpc.privacy.noise import NoiseStream, ReleaseContext
from clicooper_hpc.privacy.release_spec import ReleaseSpec, solve_release_spec

__all__ = [
    "Naming",
    "NoisedClassSums",
    "SummedSamples",
    "check_moment_numbers",
    "fit_sums",
    "make_summed_release",
    "noise_moments",
    "release_of_sums",
    "row_blocks",
    "solve_summed_spec",
    "sum_up_classes",
    "sum_up_moments",
    "summed_digest",
]

_BLOCK = 4096
_SUMS_REASON = "2 C: class sums of all samples (docs/privacy.md)"


@dataclass(frozen=True, slots=True)
class SummedSamples:
    """Private samples that are summed up, and public ones whose rows leave in their place.

    ``classes``: of the private ones; those of the public ones need not be the same.
    """

    train: Split
    public: Split
    classes: int


@dataclass(frozen=True, slots=True, eq=False)
class NoisedClassSums:
    """Class sums float64 [K, p] of ``samples`` samples; ``sigma``: the noise in each number."""

    sums: NDArray[np.float64]
    samples: int
    sigma: float


@dataclass(frozen=True, slots=True)
class Naming:
    """How many rows are made of the moments, and how surely they are named.

    ``mixes``: as in `SyntheticRows`. ``sharpness``: exponent of the class probabilities that names
    are chosen by; at 1 the rows summed by name have the moments' class sums.
    """

    mixes: int = 0
    sharpness: float = 1.0


def check_moment_numbers(numbers: int) -> None:
    """Refuse rows of so many numbers that their second moment would be mostly noise and memory.

    Raises
    ------
    UsageError
        More than `MOST_MOMENT_NUMBERS`.
    """
    if numbers > MOST_MOMENT_NUMBERS:
        raise UsageError(
            f'release.mode = "moments" takes at most {MOST_MOMENT_NUMBERS} numbers a row, '
            f"not {numbers}",
            where="front.dim",
            remedy=f"Set front.dim to at most {MOST_MOMENT_NUMBERS}.",
        )


def solve_summed_spec(
    mode: ReleaseMode, dimension: int, *, epsilon: float, delta: float
) -> ReleaseSpec:
    """Solve the promise to every sample, replace-one, for rows of ``dimension`` numbers.

    Raises
    ------
    UsageError
        There is no such mechanism.
    """
    if mode == "moments":
        return solve_moments_spec(dimension, epsilon=epsilon, delta=delta)
    promise = class_sums_guarantee(dimension, epsilon=epsilon, delta=delta, relation="replace-one")
    return replace(solve_release_spec(promise), sensitivity_reason=_SUMS_REASON)


def summed_context(
    mode: ReleaseMode, front: Front, train: Split, spec: ReleaseSpec
) -> ReleaseContext:
    """Return what the release is: of these rows behind this front, with this mechanism."""
    context = moments_context if mode == "moments" else class_sums_context
    return context(front.digest, train.fingerprint(), spec)


def summed_digest(
    mode: ReleaseMode, front: Front, train: Split, spec: ReleaseSpec | None
) -> Digest:
    """Return what names the release; ``spec`` is None with privacy off."""
    if spec is None:
        named = f"{front.digest} {train.fingerprint()}".encode()
        return digest_bytes(f"clicooper/v1/plain-{mode}", named)
    return summed_context(mode, front, train, spec).digest()


def make_summed_release(
    mode: ReleaseMode,
    front: Front,
    data: SummedSamples,
    naming: Naming,
    *,
    spec: ReleaseSpec | None,
    master: MasterKey,
) -> MomentsRelease:
    """Sum up the private rows, noise the sums once, and make of them what leaves."""
    context = None if spec is None else summed_context(mode, front, data.train, spec)
    sum_up = _moments if mode == "moments" else _class_sums
    return release_of_sums(sum_up(front, data, context, master), front, data, naming)


def release_of_sums(
    moments: Moments | NoisedClassSums,
    front: Front,
    data: SummedSamples,
    naming: Naming,
    *,
    improve: Callable[[MomentModel, NDArray[np.float64]], MomentModel] | None = None,
) -> MomentsRelease:
    """Make of noised sums what leaves; the private samples of ``data`` are not read.

    ``improve``: makes of the model of the moments, and of the recoloured rows float64 [m, p], the
    model by which the rows are to be named.
    """
    parts = list(row_blocks(front, data.public))
    baselines, recoloured = fit_sums(
        moments,
        np.concatenate([part[0].astype(np.float64) for part in parts]),
        np.concatenate([part[1] for part in parts]),
        improve=improve,
    )
    model = baselines.gradients or baselines.moments or _discriminant(baselines.class_sums)
    table, centre = recoloured.astype(np.float32), recoloured.mean(axis=0)
    names = []
    for mix in range(1 + naming.mixes):
        # Round by round: all mixes at once need not fit into memory.
        part = mixed_rows(table, centre, np.arange(len(table)) + mix * len(table))
        mixed = part.astype(np.float64)
        names.append(
            choose_names(mixed, model.class_probabilities(mixed, sharpness=naming.sharpness))
        )
    return MomentsRelease(
        SyntheticRows(table, centre, np.concatenate(names)),
        baselines,
    )


def fit_sums(
    moments: Moments | NoisedClassSums,
    public: NDArray[np.float64],
    labels: NDArray[np.int64],
    *,
    improve: Callable[[MomentModel, NDArray[np.float64]], MomentModel] | None = None,
) -> tuple[MomentBaselines, NDArray[np.float64]]:
    """Return the models that noised sums determine, and public rows recoloured to the sums.

    Parameters
    ----------
    public, labels
        Public rows behind the front, float64 [m, p], and their classes int64 [m], which need not
        be the private ones.
    improve
        As in `release_of_sums`.
    """
    each = moments.samples / len(moments.sums)
    scores = fit_private_lda(
        moments.sums / each, public, labels, noise=moments.sigma / each, samples=each
    )
    if not isinstance(moments, Moments):
        # Of their moments the mean alone is known.
        moved = public - public.mean(axis=0) + moments.sums.sum(axis=0) / moments.samples
        return MomentBaselines(scores, None), moved
    recolouring = fit_recolouring(public, moments)
    recoloured = (public - recolouring.offset.numpy()) @ recolouring.matrix.numpy()
    fitted = fit_moment_model(recoloured, moments)
    improved = None if improve is None else improve(fitted, recoloured)
    return MomentBaselines(scores, fitted, improved), recoloured


def sum_up_moments(
    front: Front, train: Split, classes: int, spec: ReleaseSpec | None
) -> MomentSums:
    """Return the sums of the private samples behind ``front``, without noise."""
    sums = MomentSums(classes, int(np.prod(front.output_shape)), spec)
    for rows, labels in row_blocks(front, train):
        sums.add_rows(rows, labels)
    return sums


def sum_up_classes(
    front: Front, train: Split, classes: int, spec: ReleaseSpec | None
) -> NDArray[np.int64] | NDArray[np.float64]:
    """Return the class sums [K, p] of the private samples behind ``front``, without noise.

    int64 in grid steps; float64 with privacy off, where ``spec`` is None.
    """
    shape = (classes, int(np.prod(front.output_shape)))
    if spec is None:
        plain = np.zeros(shape)
        for rows, labels in row_blocks(front, train):
            plain += exact_class_sums(rows, labels, classes)
        return plain
    whole = np.zeros(shape, dtype=np.int64)
    for rows, labels in row_blocks(front, train):
        whole += grid_class_sums(rows, labels, classes, spec)
    return whole


def _moments(
    front: Front, data: SummedSamples, context: ReleaseContext | None, master: MasterKey
) -> Moments:
    spec = None if context is None else context.spec
    return noise_moments(sum_up_moments(front, data.train, data.classes, spec), context, master)


def noise_moments(sums: MomentSums, context: ReleaseContext | None, master: MasterKey) -> Moments:
    """Return the sums with the noise of ``context``; as they are if it is None, privacy off."""
    if context is not None:
        return noised_moments(sums, context, master)
    return Moments(
        sums.sums.astype(np.float64),
        sums.second.astype(np.float64),
        sums.sizes.astype(np.float64),
        sums.samples,
        0.0,
    )


def _class_sums(
    front: Front, data: SummedSamples, context: ReleaseContext | None, master: MasterKey
) -> NoisedClassSums:
    spec = None if context is None else context.spec
    sums = sum_up_classes(front, data.train, data.classes, spec)
    if context is None:
        return NoisedClassSums(sums.astype(np.float64), len(data.train), 0.0)
    # Once, for the sums of all blocks: noise for each block would have to be paid for each time.
    noised = noised_class_sums(sums.astype(np.int64), NoiseStream(master, context))
    return NoisedClassSums(noised, len(data.train), context.spec.sigma)


def _discriminant(scores: Scores) -> MomentModel:
    """Return linear discriminants as a model of rows that are not centred."""
    matrix = scores.matrix.numpy()
    return MomentModel(matrix, scores.bias.numpy() - scores.offset.numpy() @ matrix)


def row_blocks(
    front: Front, split: Split
) -> Iterator[tuple[NDArray[np.float32], NDArray[np.int64]]]:
    """Yield rows behind the front, float32 [n, p], and classes, int64 [n], some thousand a time."""
    for start in range(0, len(split), _BLOCK):
        ids = np.arange(start, min(start + _BLOCK, len(split)))
        yield front.apply(split.read(ids)).reshape(len(ids), -1), split.labels(ids)
