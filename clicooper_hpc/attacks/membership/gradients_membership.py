"""What sums of gradients add to the test of an attacker who knows all samples but one.

At the model of a round, which everybody knows who holds the rounds, the noised sum less the
gradients of all others is the gradient of the last sample and noise. So rounds add their
log-likelihood ratios to that of the moments (`summed_membership`), whatever led to their models. A
gradient is the outer product of a row and a residual, so that inner products of gradients are
products of inner products of these.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from clicooper_hpc.attacks.harness.summed_release import HeldRounds
from clicooper_hpc.attacks.toolbox.summed_mechanism import RELEASES
from clicooper_hpc.attacks.toolbox.summed_rows import LabelledRows
from clicooper_hpc.digests import digest_bytes
from clicooper_hpc.owner.gradient_rounds import gradient_factors, model_digest
from clicooper_hpc.privacy.gradient_sums import GradientSum, noised_gradient_sum, round_context
from clicooper_hpc.privacy.master_key import INSECURE, MasterKey

__all__ = ["informed_rounds_scores", "repeated_rounds_noise"]

_TAG: Final = "clicooper/v1/gradients-attack"
# In place of no noise at all: differences in exact sums are far larger.
_LEAST_SIGMA: Final = 1e-6

_Factors = tuple[NDArray[np.float64], NDArray[np.float64]]


def repeated_rounds_noise(rounds: HeldRounds, seed: int) -> Iterator[NDArray[np.float64]]:
    """Yield the noise of all rounds, float64 [T, p + 1, K]: the run's, then fresh ones, 64 in all.

    Without noise that of the run is all there is.
    """
    yield rounds.released - rounds.exact
    if rounds.spec is None:
        return
    secret = digest_bytes(_TAG, f"key {seed}".encode("ascii")).value
    master, front = MasterKey(secret, INSECURE), digest_bytes(_TAG, b"no sample")
    width, classes = rounds.exact.shape[1:]
    for number in range(1, RELEASES):
        data = digest_bytes(_TAG, f"release {number}".encode("ascii"))
        contexts = [
            round_context(1 + one, model_digest(model), front, data, rounds.spec)
            for one, model in enumerate(rounds.models)
        ]
        empty = GradientSum(width, classes, rounds.spec)
        yield np.stack([noised_gradient_sum(empty, context, master) for context in contexts])


def informed_rounds_scores(
    rounds: HeldRounds,
    noise: NDArray[np.float64],
    slots: LabelledRows,
    targets: LabelledRows,
    others: LabelledRows,
) -> NDArray[np.float64]:
    """Return log-likelihood ratios float64 [m] of all rounds together.

    ``noise``: of the rounds, float64 [T, p + 1, K]; the others as in
    `clicooper_hpc.attacks.membership.summed_membership.informed_membership_scores`.
    """
    sigma = _LEAST_SIGMA if rounds.spec is None else rounds.spec.sigma
    scores = np.zeros(len(targets))
    for index, one in enumerate(noise):
        there, wanted, other = (
            _clipped_gradients(rounds, index, part) for part in (slots, targets, others)
        )
        scores += _fit(one, there, wanted) - _fit(one, there, other)
    return np.asarray(scores / sigma**2, dtype=np.float64)


def _clipped_gradients(rounds: HeldRounds, index: int, samples: LabelledRows) -> _Factors:
    width, classes = rounds.exact.shape[1:]
    factors = gradient_factors(samples.rows, samples.classes, rounds.models[index])
    return GradientSum(width, classes, rounds.spec).clipped_factors(*factors)


def _fit(noise: NDArray[np.float64], there: _Factors, asked: _Factors) -> NDArray[np.float64]:
    """Return <R, g> - |g|^2 / 2 of each gradient g, with R the gradient that is there and noise."""
    (rows, residuals), (row, residual) = there, asked
    shared = ((row @ noise) * residual).sum(axis=1)
    shared += (rows * row).sum(axis=1) * (residuals * residual).sum(axis=1)
    length = np.square(row).sum(axis=1) * np.square(residual).sum(axis=1)
    return np.asarray(shared - length / 2, dtype=np.float64)
