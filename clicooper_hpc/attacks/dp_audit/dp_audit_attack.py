"""DP audit: the run's own release mechanism, put to the test against the epsilon it claims.

Worst-case neighbours (`worst_case_rows`) are released many times by the mechanism that the run
solved for, with fresh keys and without one of the owner's samples; `epsilon_lower_bound` says how
well they can be told apart. What a linear statistic cannot see of the noise, `check_noise` looks
at. A bound above the claim, or a fault of the noise, proves a bug. Released sums are put to the
same test by `summed_audit`, with rounds of gradients by `gradients_audit`.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from clicooper_hpc.attacks.dp_audit.audit_results import audit_bound_result, audit_fault_result
from clicooper_hpc.attacks.dp_audit.epsilon_bound import (
    RELEASES_PER_NUMBER,
    ReleaseFunction,
    epsilon_lower_bound,
)
from clicooper_hpc.attacks.dp_audit.gradients_audit import (
    ROUND_TRIALS,
    gradients_audit_bounds,
    gradients_audit_noise,
    recorded_rounds,
)
from clicooper_hpc.attacks.dp_audit.noise_check import (
    check_batch_mates,
    check_noise,
    check_noise_correlation,
)
from clicooper_hpc.attacks.dp_audit.summed_audit import summed_audit_bounds, summed_audit_noise
from clicooper_hpc.attacks.dp_audit.worst_case_rows import (
    NeighbouringRows,
    add_batch_mates,
    worst_case_rows,
)
from clicooper_hpc.attacks.harness.adversary import (
    AdversaryView,
    AuxiliaryData,
    GroundTruth,
    PublicFront,
)
from clicooper_hpc.attacks.harness.attack import Attack, AttackOutcome, AttackResult
from clicooper_hpc.attacks.harness.summed_release import RELEASE_HOLDERS
from clicooper_hpc.attacks.toolbox.summed_mechanism import recorded_mechanism
from clicooper_hpc.digests import digest_bytes
from clicooper_hpc.privacy.master_key import INSECURE, MasterKey
from clicooper_hpc.privacy.noise import NoiseStream, ReleaseContext
from clicooper_hpc.privacy.release_spec import ReleaseSpec
from clicooper_hpc.privacy.row_releaser import GaussianReleaser, RowReleaser

__all__ = [
    "DP_AUDIT",
    "dp_audit_bounds",
    "dp_audit_front",
    "dp_audit_noise",
    "dp_audit_release",
    "dp_audit_releaser",
]

# Of a claim of epsilon 2 these proved 93 % on the boundary pair, 30,000 proved 87 %, 10,000 60 %.
_TRIALS: Final = 100_000
# One figure in a hundred may be too high by chance, and the table takes the lowest of the seeds
# before it says so.
_CONFIDENCE: Final = 0.99
#: Released numbers for one pair of neighbours, about: wide rows are released less often.
_NUMBERS: Final = 2**24
_NOISE_NUMBERS: Final = 2**20
_BLOCK_NUMBERS: Final = 2**22
#: Of wider rows the bound looks at as many directions: its covariance is estimated.
_DIRECTIONS: Final = 16
_MATES: Final = 3
_PROBED: Final = 8
# A z-score that independent noise exceeds with a chance of 2e-9.
_CORRELATED: Final = 6.0


def dp_audit_releaser(spec: ReleaseSpec, seed: int, *, split: str = "train") -> GaussianReleaser:
    """Return the mechanism ``spec`` with noise of its own: the run's key is not asked for."""
    # Keyed apart from every run's, also from those of reproducible jobs with the same seed.
    secret = digest_bytes("clicooper/v1/dp-audit", f"key {seed}".encode("ascii")).value
    source = digest_bytes("clicooper/v1/dp-audit", b"worst-case rows")
    context = ReleaseContext(split, source, source, spec)
    return GaussianReleaser(spec, NoiseStream(MasterKey(secret, INSECURE), context))


def dp_audit_release(releaser: RowReleaser) -> ReleaseFunction:
    """Make a `ReleaseFunction` of the owner's releaser.

    Every row of every release has its own sample id. That is what one-time release means: a row
    never meets the same noise as another.
    """
    used = 0

    def release(rows: NDArray[np.float64], count: int) -> NDArray[np.float32]:
        nonlocal used
        size = count * len(rows)
        ids = np.arange(used, used + size, dtype=np.int64)
        used += size
        return releaser.release_rows(np.tile(rows, (count, 1)), ids).reshape(count, *rows.shape)

    return release


def dp_audit_bounds(
    spec: ReleaseSpec,
    *,
    trials: int = _TRIALS,
    seed: int = 0,
    confidence: float = _CONFIDENCE,
) -> tuple[AttackResult, ...]:
    """Bound the epsilon of ``spec`` from below, on every worst-case pair.

    Noise comes from the reproducible stream of ``seed``, so the same call gives the same figures.
    Each figure holds with ``confidence`` by itself.

    Parameters
    ----------
    spec
        The solved mechanism. Rows of more than 16 numbers are released whole and looked at along
        16 directions, the one in which the neighbours differ first.
    trials
        Releases of each neighbour, fewer of wide rows.
    seed, confidence
        Of the noise; see `epsilon_lower_bound`.

    Returns
    -------
    tuple[AttackResult, ...]
        One for each pair of `worst_case_rows`, and one for the first among batch mates: ``value``
        and ``low`` are the lower bound of epsilon, ``ceiling`` is the claim; a value above it
        proves a bug.
    """
    guarantee = spec.guarantee
    release = dp_audit_release(dp_audit_releaser(spec, seed))
    pairs = worst_case_rows(guarantee)
    # All rows of a batch leave: noise that one row shares with its mates would cancel in them.
    pairs["boundary, batch mates"] = add_batch_mates(
        pairs["boundary"], np.zeros((_MATES, guarantee.dimension))
    )
    results = []
    for name, pair in pairs.items():
        number = _audit_trials(pair, trials)
        bound = epsilon_lower_bound(
            _project_release(release, pair),
            *pair,
            trials=number,
            delta=guarantee.delta,
            confidence=confidence,
        )
        results.append(audit_bound_result(name, bound, spec, seed))
    return tuple(results)


def dp_audit_noise(spec: ReleaseSpec, *, trials: int = _TRIALS, seed: int = 0) -> AttackResult:
    """Count the faults of the noise: grid, distribution, repeated rows, one noise in two splits."""
    dimension = spec.guarantee.dimension
    # Two releases at least, or nothing could be repeated.
    number = max(2, min(trials, _NOISE_NUMBERS // dimension))
    # The zero row lies in every clip set and on every grid, so what is released of it is noise.
    rows, ids = np.zeros((number, dimension)), np.arange(number, dtype=np.int64)
    train, other = (
        dp_audit_releaser(spec, seed, split=split).release_rows(rows, ids)
        for split in ("train", "validation")
    )
    check = check_noise(train, rows[0], sigma=spec.sigma, grid=spec.grid)
    faults = list(check.faults)
    if abs(check_noise_correlation(train.astype(np.float64), other.astype(np.float64))) > (
        _CORRELATED
    ):
        faults.append("one noise in two splits")
    return audit_fault_result(
        "noise",
        "faults of the noise",
        faults,
        f"{train.size} numbers: grid, distribution, distinct values, repeats, splits",
        seed,
    )


def dp_audit_front(front: PublicFront, shape: tuple[int, ...], *, seed: int = 0) -> AttackResult:
    """Tell whether a row of the front changes with the rows it is computed with.

    No sensitivity of a single row covers that. Asked of random images [channels, height, width] of
    ``shape``, in [0, 1].
    """
    # Random and not the owner's: a fault of batch statistics shows on any images.
    images = np.random.default_rng(seed).random((_PROBED, *shape), dtype=np.float32)
    faults = ["rows change with their batch mates"] if check_batch_mates(front, images) else []
    return audit_fault_result(
        "front", "faults of the front", faults, f"bits of {_PROBED} random images' rows", seed
    )


def _audit_trials(pair: NeighbouringRows, wanted: int) -> int:
    """Return how often each neighbour is released: even, fewer where rows are wide."""
    batch, dimension = len(pair[0]), pair[0][0].size
    afforded = _NUMBERS // (2 * batch * dimension)
    # Fewer than these, and `epsilon_lower_bound` has no covariance to work with.
    least = RELEASES_PER_NUMBER * batch * min(dimension, _DIRECTIONS)
    number: int = max(min(wanted, afforded), least) // 2 * 2
    return number


def _project_release(release: ReleaseFunction, pair: NeighbouringRows) -> ReleaseFunction:
    """Return a release that keeps of wide rows the directions in which the pair may differ.

    Whatever is computed of a release alone is post-processing, so the bound stays one.
    """
    batch, dimension = pair[0].shape
    if dimension <= _DIRECTIONS:
        return release
    apart = (pair[0] - pair[1])[0]
    likeliest = np.argsort(-np.abs(apart), kind="stable")[: _DIRECTIONS - 1]
    units = np.zeros((dimension, len(likeliest)))
    units[likeliest, np.arange(len(likeliest))] = 1.0
    basis, weights = np.linalg.qr(np.column_stack([apart, units]))
    # A pair that differs in one number has that number twice among the columns.
    basis = basis[:, np.abs(np.diag(weights)) > 1e-9 * np.abs(weights).max()]
    step = max(1, _BLOCK_NUMBERS // (batch * dimension))

    def project(rows: NDArray[np.float64], count: int) -> NDArray[np.float32]:
        parts = [
            release(rows, min(step, count - start)).astype(np.float64) @ basis
            for start in range(0, count, step)
        ]
        return np.concatenate(parts).astype(np.float32)

    return project


def _dp_audit_applies(view: AdversaryView) -> str | None:
    if view.mechanism.spec is None:
        return "privacy is off, so there is no claim to test"
    tested = view.held is not None
    if not view.summed:
        tested = view.adversary.segments == (1,) and len(view.rows) > 0
    if not tested:
        name = RELEASE_HOLDERS.get(view.release, "trainer 1")
        return f"the mechanism is the same for everybody: tested once, as {name}"
    return None


def _run_dp_audit(
    view: AdversaryView, aux: AuxiliaryData, truth: GroundTruth, seed: int, scale: float
) -> AttackOutcome:
    del truth  # nothing is guessed about the owner's samples
    spec = view.mechanism.spec
    if spec is None:
        raise ValueError("an audit needs a mechanism")
    trials = math.ceil(_TRIALS * scale)
    if view.held is not None:
        mechanism = recorded_mechanism(view.release, spec, "dp-audit", seed)
        if view.promise is not None:
            # Moments and rounds fill one promise, so they are told apart together.
            trials = math.ceil(ROUND_TRIALS * scale)
            results = [*gradients_audit_bounds(view.promise, trials=trials, seed=seed)]
            one_round = recorded_rounds(view.promise.gradients, seed)
            results.append(gradients_audit_noise(one_round, view.promise.gradients, seed=seed))
        else:
            results = [*summed_audit_bounds(mechanism, spec, trials=trials, seed=seed)]
        results.append(summed_audit_noise(mechanism, spec, seed=seed))
    else:
        results = [*dp_audit_bounds(spec, trials=trials, seed=seed)]
        results.append(dp_audit_noise(spec, trials=trials, seed=seed))
    if view.front is not None:
        results.append(dp_audit_front(view.front, aux.same.images.shape[1:], seed=seed))
    return AttackOutcome(tuple(results))


DP_AUDIT: Final = Attack(
    name="dp-audit",
    knowledge="the mechanism with its claim, and rows of its own choice, 100,000 times each; of "
    "sums, worst-case data sets",
    source="Jagielski et al., NeurIPS 2020; Nasr et al., USENIX Security 2023",
    applies=_dp_audit_applies,
    run=_run_dp_audit,
)
