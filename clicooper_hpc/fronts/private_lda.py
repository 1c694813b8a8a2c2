"""A projection that a part of the training samples pays for: LDA of their noised class sums.

The rows of spent samples, through the public part of the front and scaled to norm 1, are summed by
class; the sums get noise once (`clicooper_hpc.privacy.class_sums` has the argument), and the
samples are never released. Everything after the noise is post-processing: sums divided by the
expected number of samples a class are the means of a linear discriminant, whose within-class
covariance comes from public rows. The released row is the discriminant's probabilities of the
classes: they are not negative, so two rows of norm C are at most sqrt(2) C apart, not 2 C.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from clicooper_hpc.config.owner_sections import PrivacySection
from clicooper_hpc.data.split import Split
from clicooper_hpc.digests import digest_bytes
from clicooper_hpc.fronts.discriminant import fit_discriminant
from clicooper_hpc.fronts.front import Front, Provenance, Spending
from clicooper_hpc.fronts.operations import Operation
from clicooper_hpc.privacy.class_sums import (
    class_sums_guarantee,
    exact_class_sums,
    grid_class_sums,
    noised_class_sums,
)
from clicooper_hpc.privacy.keys import MasterKey
from clicooper_hpc.privacy.noise import NoiseStream, ReleaseContext
from clicooper_hpc.privacy.randomized_response import RandomizedResponse
from clicooper_hpc.privacy.spec import solve

__all__ = ["Spend", "SpentMeans", "discriminant_stages", "spend_samples"]

_BLOCK = 4096


@dataclass(frozen=True, slots=True)
class SpentMeans:
    """Class means float64 [K, p] of rows of norm 1, noised unless privacy is off."""

    means: NDArray[np.float64]
    spending: Spending


#: Class means behind a front that ends in vectors of norm 1.
Spend = Callable[[Front], SpentMeans]


def spend_samples(
    before: Front,
    spent: Split,
    classes: int,
    privacy: PrivacySection,
    master: MasterKey,
    *,
    response_epsilon: float | None = None,
) -> SpentMeans:
    """Spend the samples of ``spent`` on noised class means.

    The same bits for the same front, samples, settings and key.

    Parameters
    ----------
    before
        Ends in vectors of norm 1, independent of private data.
    spent
        Samples that are never released.
    classes
        Number K of classes. Taken as public, as is the number of samples.
    response_epsilon
        Of randomised response on the labels before they are used, as on those that are released.
    """
    dimension = int(np.prod(before.output_shape))
    spec = None
    if privacy.enabled:
        spec = solve(
            class_sums_guarantee(
                dimension,
                epsilon=privacy.epsilon,
                delta=privacy.delta,
                relation=privacy.relation,
            )
        )
    fingerprint = spent.fingerprint()
    labels = spent.labels()
    if response_epsilon is not None:
        context = digest_bytes("clicooper/v1/spent-labels", fingerprint.value)
        answers = RandomizedResponse(response_epsilon, classes, master, context)
        labels = answers.answers(labels, np.arange(len(spent)))
    exact = np.zeros((classes, dimension))
    whole = np.zeros((classes, dimension), dtype=np.int64)
    for start in range(0, len(spent), _BLOCK):
        ids = np.arange(start, min(start + _BLOCK, len(spent)))
        rows = before.rows(spent.rows(ids)).reshape(len(ids), dimension)
        if spec is None:
            exact += exact_class_sums(rows, labels[ids], classes)
        else:
            whole += grid_class_sums(rows, labels[ids], classes, spec)
    if spec is not None:
        release = ReleaseContext("spent", before.digest, fingerprint, spec)
        exact = noised_class_sums(whole, NoiseStream(master, release))
    # The expected number of samples a class: true counts would be another query.
    return SpentMeans(exact / (len(spent) / classes), Spending(len(spent), spec))


def discriminant_stages(
    before: Front,
    public: NDArray[np.float32],
    labels: NDArray[np.int64],
    spend: Spend,
) -> tuple[tuple[Operation, ...], Provenance]:
    """Append the class scores that spent samples give to a front.

    Parameters
    ----------
    before
        As in `spend_samples`.
    public, labels
        Public rows behind ``before``, float32 [n, p], and their classes int64 [n].
    """
    found = spend(before)
    spec, classes = found.spending.spec, len(found.means)
    samples = found.spending.samples / classes
    scores = fit_discriminant(
        found.means,
        public.astype(np.float64),
        labels,
        noise=0.0 if spec is None else spec.sigma / samples,
        samples=samples,
    )
    provenance = before.provenance
    noised = "exact" if spec is None else "noised"
    text = f"{provenance.projection}, then LDA scores of {classes} classes by {noised} class sums"
    spent = replace(provenance, projection=text, spent=found.spending)
    return (*before.stages, scores), spent
