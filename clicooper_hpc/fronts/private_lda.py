"""Class scores by linear discriminants of noised class sums, paid for by samples set aside.

The rows of samples set aside, through the public part of the front and scaled to norm 1, are summed
by class; the sums get noise once (`clicooper_hpc.privacy.class_sums` has the argument), and the
samples are never released. Everything after the noise is post-processing: sums divided by the
expected number of samples a class are the means of a linear discriminant, whose within-class
covariance comes from public rows. The released row is the discriminant's probabilities of the
classes: they are not negative, so two rows of norm C are at most sqrt(2) C apart, not 2 C.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from clicooper_hpc.config.privacy_section import PrivacySection
from clicooper_hpc.data.split import Split
from clicooper_hpc.digests import digest_bytes
from clicooper_hpc.errors import DataError
from clicooper_hpc.fronts.front import Front
from clicooper_hpc.fronts.operations import Operation, Scores
from clicooper_hpc.fronts.origin import ClassSumsCost, FrontOrigin
from clicooper_hpc.privacy.class_sums import (
    class_sums_guarantee,
    exact_class_sums,
    grid_class_sums,
    noised_class_sums,
)
from clicooper_hpc.privacy.master_key import MasterKey
from clicooper_hpc.privacy.noise import NoiseStream, ReleaseContext
from clicooper_hpc.privacy.randomized_response import RandomizedResponse
from clicooper_hpc.privacy.release_spec import solve_release_spec

__all__ = [
    "ClassMeansSource",
    "PrivateClassMeans",
    "append_private_lda",
    "fit_private_lda",
    "private_lda_means",
    "shrunk_means",
    "whitening_root",
]

_BLOCK = 4096
#: Share of the mean variance added to every direction of the within-class covariance.
_RIDGE = 0.02


@dataclass(frozen=True, slots=True)
class PrivateClassMeans:
    """Class means float64 [K, p] of rows of norm 1, noised unless privacy is off."""

    means: NDArray[np.float64]
    cost: ClassSumsCost


#: Class means behind a front that ends in vectors of norm 1.
ClassMeansSource = Callable[[Front], PrivateClassMeans]


def private_lda_means(
    before: Front,
    set_aside: Split,
    classes: int,
    privacy: PrivacySection,
    master: MasterKey,
    *,
    response_epsilon: float | None = None,
) -> PrivateClassMeans:
    """Return noised class means of the samples of ``set_aside``, which are never released.

    The same bits for the same front, samples, settings and key.

    Parameters
    ----------
    before
        Ends in vectors of norm 1, independent of private data.
    set_aside
        Samples that are never released.
    classes
        Number K of classes. Taken as public, as is the number of samples.
    response_epsilon
        Of randomised response on the labels before they are used, as on those that are released.
    """
    dimension = int(np.prod(before.output_shape))
    spec = None
    if privacy.enabled:
        spec = solve_release_spec(
            class_sums_guarantee(
                dimension,
                epsilon=privacy.epsilon,
                delta=privacy.delta,
                relation=privacy.relation,
            )
        )
    fingerprint = set_aside.fingerprint()
    labels = set_aside.labels()
    if response_epsilon is not None:
        # A context of its own: these samples answer once, and not with the words of another split.
        context = digest_bytes("clicooper/v1/spent-labels", fingerprint.value)
        answers = RandomizedResponse(response_epsilon, classes, master, context)
        labels = answers.randomized_answers(labels, np.arange(len(set_aside)))
    exact = np.zeros((classes, dimension))
    whole = np.zeros((classes, dimension), dtype=np.int64)
    for start in range(0, len(set_aside), _BLOCK):
        # Parts: the rows of all samples need not fit into memory, and integer sums do not mind.
        ids = np.arange(start, min(start + _BLOCK, len(set_aside)))
        rows = before.apply(set_aside.read(ids)).reshape(len(ids), dimension)
        if spec is None:
            exact += exact_class_sums(rows, labels[ids], classes)
        else:
            whole += grid_class_sums(rows, labels[ids], classes, spec)
    if spec is not None:
        # "spent" keys the noise, and names these samples in the privacy ledger: it never changes.
        release = ReleaseContext("spent", before.digest, fingerprint, spec)
        # Once, for the sums of all parts: noise for each part would have to be paid for each time.
        exact = noised_class_sums(whole, NoiseStream(master, release))
    # The expected number of samples a class: true counts would be another query.
    return PrivateClassMeans(
        exact / (len(set_aside) / classes), ClassSumsCost(len(set_aside), spec)
    )


def append_private_lda(
    before: Front,
    public: NDArray[np.float32],
    labels: NDArray[np.int64],
    class_means: ClassMeansSource,
) -> tuple[tuple[Operation, ...], FrontOrigin]:
    """Append to the operations of a front the class scores that the set-aside samples pay for.

    Parameters
    ----------
    before
        As in `private_lda_means`.
    public, labels
        Public rows behind ``before``, float32 [n, p], and their classes int64 [n].
    """
    found = class_means(before)
    spec, classes = found.cost.spec, len(found.means)
    samples = found.cost.samples / classes
    scores = fit_private_lda(
        found.means,
        public.astype(np.float64),
        labels,
        noise=0.0 if spec is None else spec.sigma / samples,
        samples=samples,
    )
    origin = before.origin
    noised = "exact" if spec is None else "noised"
    text = f"{origin.projection}, then LDA scores of {classes} classes by {noised} class sums"
    origin = replace(origin, projection=text, class_sums=found.cost)
    return (*before.operations, scores), origin


def fit_private_lda(
    means: NDArray[np.float64],
    public: NDArray[np.float64],
    labels: NDArray[np.int64],
    *,
    noise: float,
    samples: float,
) -> Scores:
    """Return Fisher's discriminant between given class means, as probabilities of the classes.

    From public rows it takes only how rows spread within a class.

    With W the within-class covariance of the public rows plus a ridge, rows and centred means are
    multiplied by W^(-1/2); the means are then shrunk by what is known of their error, C (C + E)^-1
    with C the covariance of the means less E, and E that of noise and sampling (empirical Bayes:
    Efron and Morris, JASA 70, 1975). The scores are those of linear discriminant analysis with
    equal priors (Hastie, Tibshirani and Friedman, "The Elements of Statistical Learning", 4.3).

    Parameters
    ----------
    means
        float64 [K, p].
    public, labels
        float64 [n, p] and int64 [n]; their classes need not be the K ones.
    noise
        Standard deviation of the noise in each number of ``means``; 0 without.
    samples
        Samples behind each mean.
    """
    root = whitening_root(public, labels)
    centre = means.mean(axis=0)
    shrunk = shrunk_means((means - centre) @ root, root, noise=noise, samples=samples)
    return Scores(
        torch.from_numpy(centre),
        torch.from_numpy(np.ascontiguousarray(root @ shrunk.T)),
        torch.from_numpy(-np.sum(shrunk**2, axis=1) / 2),
    )


def whitening_root(public: NDArray[np.float64], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return W^(-1/2) float64 [p, p] of the within-class covariance W of public rows, and a ridge.

    Raises
    ------
    DataError
        The rows do not vary within their classes.
    """
    width = public.shape[1]
    names, which = np.unique(labels, return_inverse=True)
    totals = np.zeros((len(names), width))
    np.add.at(totals, which, public)
    inside = public - (totals / np.bincount(which)[:, np.newaxis])[which]
    # Public rows: the spread of the private ones would be another query.
    within = np.atleast_2d(np.cov(inside.T))
    values, vectors = np.linalg.eigh(within + _RIDGE * np.trace(within) / width * np.eye(width))
    if not values.min() > 0:
        raise DataError("the public rows do not vary within their classes", where="public data")
    root: NDArray[np.float64] = (vectors / np.sqrt(values)) @ vectors.T
    return root


def shrunk_means(
    white: NDArray[np.float64], root: NDArray[np.float64], *, noise: float, samples: float
) -> NDArray[np.float64]:
    """Return centred class means float64 [K, p] in whitened space, drawn towards their centre.

    ``root``: of `whitening_root`; ``noise`` and ``samples`` as in `fit_private_lda`.
    """
    classes, width = white.shape
    # What is known of the error of a mean: its noise, and that it is a mean of few samples.
    error = noise**2 * root @ root + np.eye(width) / samples
    sizes, axes = np.linalg.eigh(white.T @ white / classes - error)
    # Less error than there is would make it negative: then nothing is known in that direction.
    between = (axes * np.maximum(sizes, 0.0)) @ axes.T
    shrunk: NDArray[np.float64] = white @ np.linalg.solve(between + error, between)
    return shrunk
