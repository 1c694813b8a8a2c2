"""Results of a DP audit as rows of the table: a lower bound beside the claim, a count of faults."""

from __future__ import annotations

from clicooper_hpc.attacks.dp_audit.epsilon_bound import EpsilonBound
from clicooper_hpc.attacks.harness.attack import AttackResult
from clicooper_hpc.privacy.release_spec import ReleaseSpec

__all__ = ["audit_bound_result", "audit_fault_result"]


def audit_bound_result(
    variant: str, bound: EpsilonBound, spec: ReleaseSpec, seed: int
) -> AttackResult:
    """Return a lower bound of epsilon; ``ceiling`` is the claim, a value above it proves a bug."""
    guarantee = spec.guarantee
    return AttackResult(
        attack="dp-audit",
        variant=variant,
        party="auditor",
        metric=(
            f"epsilon ({guarantee.unit_label}, {guarantee.relation}) at delta "
            f"{guarantee.delta:g}, {bound.confidence:.0%} lower bound"
        ),
        kind="honest",
        value=bound.epsilon,
        low=bound.epsilon,
        chance=0.0,
        baseline=0.0,
        ceiling=guarantee.epsilon,
        seed=seed,
        note=(
            f"ceiling: the claim; mu {bound.mu:.4f} of {spec.mu:.4f}; without Gaussian "
            f"curve {bound.epsilon_direct:.3f}; {bound.trials} releases of either neighbour"
        ),
    )


def audit_fault_result(
    variant: str, metric: str, faults: list[str], asked: str, seed: int
) -> AttackResult:
    """Return the number of ``faults``; ``asked`` says what was looked at."""
    # No fault is allowed, so that one shows like a figure above any other ceiling.
    return AttackResult(
        attack="dp-audit",
        variant=variant,
        party="auditor",
        metric=metric,
        kind="honest",
        value=float(len(faults)),
        low=float(len(faults)),
        ceiling=0.0,
        seed=seed,
        note=f"{', '.join(faults) or 'none'}; {asked}",
    )
