"""DP audit of moments and rounds of gradients together: real sums and noise, worst-case data.

The code that is tested is that of a run (`MomentSums`, `GradientSum` and their noise) with the
run's sigmas and grids. A whole release, moments and all rounds, is told from that of a neighbour by
one statistic over all its numbers. Residuals are not a model's but the longest there are: all of a
sample's mass on the other class, in every round. No model says so of all samples; the bound for
whatever a model says must hold for it. Many data sets go into one release, as in `summed_audit`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from clicooper_hpc.attacks.dp_audit.audit_results import audit_bound_result, audit_fault_result
from clicooper_hpc.attacks.dp_audit.epsilon_bound import (
    RELEASES_PER_NUMBER,
    ReleaseFunction,
    epsilon_lower_bound,
)
from clicooper_hpc.attacks.dp_audit.noise_check import check_noise, check_noise_correlation
from clicooper_hpc.attacks.dp_audit.summed_audit import summed_audit_release
from clicooper_hpc.attacks.dp_audit.worst_case_samples import (
    SAMPLE_CLASSES,
    SAMPLE_NUMBERS,
    worst_case_samples,
)
from clicooper_hpc.attacks.harness.attack import AttackResult
from clicooper_hpc.attacks.toolbox.summed_mechanism import SummedMechanism, recorded_mechanism
from clicooper_hpc.digests import digest_bytes
from clicooper_hpc.privacy.gradient_sums import (
    GradientSum,
    SplitPromise,
    noised_gradient_sum,
    round_context,
)
from clicooper_hpc.privacy.master_key import INSECURE, MasterKey
from clicooper_hpc.privacy.release_spec import ReleaseSpec

__all__ = [
    "ROUND_TRIALS",
    "RoundMechanism",
    "gradients_audit_bounds",
    "gradients_audit_noise",
    "gradients_audit_release",
    "recorded_rounds",
]

#: Releases of each neighbour: fewer than of rows, since each is one of many rounds.
ROUND_TRIALS: Final = 10_000
_CONFIDENCE: Final = 0.99
_TOGETHER: Final = 16
# Numbers released of one data set: of the moments, and of each round.
_MOMENTS: Final = 14
_ROUND: Final = SAMPLE_NUMBERS * SAMPLE_CLASSES
_NOISE_NUMBERS: Final = 192
# A z-score that independent noise exceeds with a chance of 2e-9.
_CORRELATED: Final = 6.0
_TAG: Final = "clicooper/v1/dp-audit"

#: Noised sum of a round: rows float64 [n, p], residuals float64 [n, K], number of the round, and
#: which data set it is: each has noise of its own.
RoundMechanism = Callable[[NDArray[np.float64], NDArray[np.float64], int, int], NDArray[np.float64]]


@dataclass(frozen=True, slots=True)
class _AuditedRounds:
    """The rounds of a run with the key of an audit: the run's key is not asked for."""

    spec: ReleaseSpec
    seed: int

    def __call__(
        self, rows: NDArray[np.float64], residuals: NDArray[np.float64], number: int, data: int
    ) -> NDArray[np.float64]:
        promise = replace(self.spec.guarantee, dimension=residuals.shape[1])
        spec = replace(self.spec, guarantee=promise)
        gradients = GradientSum(rows.shape[1], residuals.shape[1], spec)
        gradients.add_gradients(rows, residuals)
        secret = digest_bytes(_TAG, f"rounds key {self.seed}".encode("ascii")).value
        front, model = (digest_bytes(_TAG, name) for name in (b"worst-case samples", b"model"))
        name = digest_bytes(_TAG, f"data set {data}".encode())
        context = round_context(number, model, front, name, spec)
        return noised_gradient_sum(gradients, context, MasterKey(secret, INSECURE))


def recorded_rounds(spec: ReleaseSpec, seed: int) -> RoundMechanism:
    """Return the rounds of a run, of noise ``spec``, for any rows, with noise of its own."""
    return _AuditedRounds(spec, seed)


def gradients_audit_release(
    moments: SummedMechanism, one_round: RoundMechanism, rounds: int, together: int = _TOGETHER
) -> ReleaseFunction:
    """Make a `ReleaseFunction` of moments and rounds, for data sets of `worst_case_samples`.

    ``together``: data sets in one release.
    """
    moments_release = summed_audit_release(moments, together)
    used = itertools.count()

    def release(samples: NDArray[np.float64], count: int) -> NDArray[np.float32]:
        rows, classes = samples[:, :-1], samples[:, -1].astype(np.int64)
        # Everything on the other class: 1 there and -1 at its own, longer than the clip.
        residuals = 1.0 - 2.0 * np.eye(SAMPLE_CLASSES)[classes]
        # Data set j has coordinates and classes of its own in every matrix.
        wide, apart = (
            np.einsum("ij,nk->injk", np.eye(together), part).reshape(together * len(part), -1)
            for part in (rows, residuals)
        )
        parts = []
        for _ in range(-(-count // together)):
            data = next(used)
            sums = [one_round(wide, apart, 1 + number, data) for number in range(rounds)]
            parts.append(np.concatenate([_numbers_of_each(one, together) for one in sums], axis=1))
        gradients = np.concatenate(parts)[:count].astype(np.float32)
        return np.concatenate([moments_release(samples, count), gradients], axis=1)

    return release


def gradients_audit_bounds(
    promise: SplitPromise, *, trials: int = ROUND_TRIALS, seed: int = 0
) -> tuple[AttackResult, ...]:
    """Bound the epsilon of moments and all rounds together from below, on every worst-case pair.

    Parameters
    ----------
    promise
        That of a run.
    trials
        Releases of each neighbour.
    seed
        For the noise, and for the table.

    Returns
    -------
    tuple[AttackResult, ...]
        ``value`` and ``low`` are the lower bound of epsilon, ``ceiling`` is the claim.
    """
    release = gradients_audit_release(
        recorded_mechanism("moments", promise.moments, "dp-audit", seed),
        recorded_rounds(promise.gradients, seed),
        promise.rounds,
    )
    least = RELEASES_PER_NUMBER * (_MOMENTS + _ROUND * promise.rounds)
    results = []
    for name, pair in worst_case_samples().items():
        bound = epsilon_lower_bound(
            release,
            *pair,
            # Fewer, and there would be no covariance to work with.
            trials=max(trials // 2 * 2, least),
            delta=promise.whole.guarantee.delta,
            confidence=_CONFIDENCE,
        )
        results.append(audit_bound_result(name, bound, promise.whole, seed))
    return tuple(results)


def gradients_audit_noise(
    one_round: RoundMechanism, spec: ReleaseSpec, *, seed: int = 0
) -> AttackResult:
    """Count faults of the noise of rounds: lattice and law, noise of two rounds or data sets.

    ``spec``: what is claimed of a round. Asked of sums of nothing but zero rows.
    """
    p = _NOISE_NUMBERS
    rows, residuals = np.zeros((1, p)), np.zeros((1, p))
    first, other, elsewhere = (
        one_round(rows, residuals, number, data) for number, data in ((1, 0), (2, 0), (1, 1))
    )
    column = np.concatenate([first, other, elsewhere]).reshape(-1, 1).astype(np.float32)
    check = check_noise(column, np.zeros(1), sigma=spec.sigma, grid=spec.grid)
    faults = [f"{fault}: gradients" for fault in check.faults]
    for what, one in (("two rounds", other), ("two data sets", elsewhere)):
        # No noise at all is another fault, and goes with nothing.
        if (
            first.std()
            and one.std()
            and abs(check_noise_correlation(first.ravel(), one.ravel())) > _CORRELATED
        ):
            faults.append(f"one noise in {what}")
    asked = f"3 rounds of {p} numbers and classes: lattice, law, rounds, data sets"
    return audit_fault_result("noise of rounds", "faults of the noise", faults, asked, seed)


def _numbers_of_each(total: NDArray[np.float64], together: int) -> NDArray[np.float64]:
    """Return the numbers of each data set in one round: float64 [together, p K]."""
    at = np.arange(together)
    blocks = total.reshape(together, SAMPLE_NUMBERS, together, SAMPLE_CLASSES)[at, :, at]
    return blocks.reshape(together, -1)
