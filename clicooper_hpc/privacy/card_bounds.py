"""What the guarantee of a run says that nobody can exceed, line by line for the privacy card."""

from __future__ import annotations

import math

from clicooper_hpc.privacy.accounting import compose_charges
from clicooper_hpc.privacy.ceiling import gaussian_ceiling, local_dp_ceiling, membership_ceiling
from clicooper_hpc.privacy.release_spec import ReleaseSpec

__all__ = ["bound_lines"]

#: Rate of false positives at which the ceiling of membership inference is stated.
_MEMBER_FALSE_POSITIVES = 0.01


def bound_lines(spec: ReleaseSpec, classes: int, *, summed: bool) -> list[tuple[str, str]]:
    """Return name and text of each bound.

    Parameters
    ----------
    classes
        Number of classes of the private samples.
    summed
        Sums over all samples are released, not a row of each.
    """
    g, k, fpr = spec.guarantee, classes, _MEMBER_FALSE_POSITIVES
    radius = g.clip * (math.sqrt(g.dimension) if g.unit == "element" else 1.0)
    rows: list[tuple[str, str]] = []
    # Both ceilings compare a row with another row, whatever relation the claim is for.
    charge = spec.sample_charge().under("replace-one")
    if k >= 2:
        epsilon, delta = compose_charges([charge], g.delta)
        any_dp = local_dp_ceiling(k, epsilon, delta)
    if k >= 2 and summed:
        text = f"{_p(any_dp)}, chance {_p(1 / k)}, with all else known, {k} balanced classes"
        rows.append(("label ceiling", text))
    elif k >= 2:
        gauss = gaussian_ceiling(k, radius, spec.sigma)
        text = f"{_p(gauss)} (Gaussian), {_p(any_dp)} (any mechanism), chance {_p(1 / k)}"
        rows.append(("label ceiling", f"{text}, from a released row, {k} balanced classes"))
    tpr = membership_ceiling(fpr, charge.mu)
    rows.append(("member ceiling", f"true positives {_p(tpr)} at {_p(fpr)} false positives"))
    return rows


def _p(value: float) -> str:
    return f"{100 * value:.3g} %"
