"""DP audit: the shipped release mechanism against its own claim; never on a user's data.

Worst-case neighbours (`clicooper_hpc.attacks.dp_audit.worst_case_rows`) are released many times, and
`clicooper_hpc.attacks.dp_audit.epsilon_bound` bounds epsilon from below by how well they are told apart.
What a linear statistic cannot see of the noise is looked at in `clicooper_hpc.attacks.dp_audit.noise_check`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from clicooper_hpc.attacks.dp_audit.epsilon_bound import (
    EpsilonBound,
    ReleaseFunction,
    epsilon_lower_bound,
)
from clicooper_hpc.attacks.dp_audit.worst_case_rows import worst_case_rows
from clicooper_hpc.attacks.harness.attack_definition import AttackResult
from clicooper_hpc.digests import digest_bytes
from clicooper_hpc.privacy.keys import MasterKey
from clicooper_hpc.privacy.noise import NoiseStream, ReleaseContext
from clicooper_hpc.privacy.release import Releaser, RowReleaser
from clicooper_hpc.privacy.sensitivity import Guarantee
from clicooper_hpc.privacy.spec import solve

__all__ = [
    "EpsilonBound",
    "ReleaseFunction",
    "audited_release",
    "dp_audit_guarantee",
    "epsilon_lower_bound",
]


def audited_release(releaser: RowReleaser) -> ReleaseFunction:
    """Make a `ReleaseFunction` of the owner's releaser: every row of every release has its own sample id.

    That is what one-time release means: a row never meets the same noise as another.
    """
    used = 0

    def release(rows: NDArray[np.float64], count: int) -> NDArray[np.float32]:
        nonlocal used
        size = count * len(rows)
        ids = np.arange(used, used + size, dtype=np.int64)
        used += size
        return releaser.release(np.tile(rows, (count, 1)), ids).reshape(count, *rows.shape)

    return release


def dp_audit_guarantee(
    guarantee: Guarantee, *, trials: int = 200_000, seed: int = 0, confidence: float = 0.99
) -> tuple[AttackResult, ...]:
    """Audit the shipped mechanism as solved for ``guarantee``, on every worst-case pair.

    Noise comes from the reproducible stream of ``seed``, so the same call gives the same figures.
    Each figure holds with ``confidence`` by itself.

    Parameters
    ----------
    guarantee
        Of small dimension: neighbours differ along one direction, the others only cost time.
    trials, seed, confidence
        See `epsilon_lower_bound`.

    Returns
    -------
    tuple[AttackResult, ...]
        One for each pair of `worst_case_rows`: ``value`` and ``low`` are the lower bound of
        epsilon, ``ceiling`` is the claim; a value above it proves a bug.
    """
    spec = solve(guarantee)
    source = digest_bytes("clicooper/v1/dp-audit", b"worst-case rows")
    stream = NoiseStream(MasterKey.from_seed(seed), ReleaseContext("train", source, source, spec))
    release = audited_release(Releaser(spec, stream))
    results = []
    for name, (first, second) in worst_case_rows(guarantee).items():
        bound = epsilon_lower_bound(
            release, first, second, trials=trials, delta=guarantee.delta, confidence=confidence
        )
        results.append(
            AttackResult(
                attack="dp-audit",
                variant=name,
                party="auditor",
                metric=f"epsilon at delta {guarantee.delta:g}, {confidence:.0%} lower bound",
                kind="honest",
                value=bound.epsilon,
                low=bound.epsilon,
                chance=0.0,
                baseline=0.0,
                ceiling=guarantee.epsilon,
                seed=seed,
                note=(
                    f"unit {guarantee.unit_label}, {guarantee.relation}; mu {bound.mu:.4f} of "
                    f"{spec.mu:.4f}; without Gaussian curve {bound.epsilon_direct:.3f}; "
                    f"{trials} releases of either"
                ),
            )
        )
    return tuple(results)
