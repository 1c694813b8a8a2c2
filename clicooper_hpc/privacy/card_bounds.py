"""What the guarantee of a run says that nobody can exceed, line by line for the privacy card."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from clicooper_hpc.privacy.accounting import compose_charges
from clicooper_hpc.privacy.both_relations import RelationStatement
from clicooper_hpc.privacy.ceiling import (
    gaussian_ceiling,
    local_dp_ceiling,
    membership_ceiling,
    reconstruction_ceiling,
)
from clicooper_hpc.privacy.release_spec import ReleaseSpec

__all__ = ["bound_lines", "reconstruction_words"]

#: Rate of false positives at which the ceiling of membership inference is stated.
_MEMBER_FALSE_POSITIVES = 0.01
#: Chances of a blind guess for which the ceiling of reconstruction is stated.
_BLIND = (1e-2, 1e-4, 1e-6)


def reconstruction_words(spec: ReleaseSpec, stated: Iterable[RelationStatement]) -> str:
    """Return what nobody can rebuild of a sample more often than by a blind guess.

    ``stated``: the release under all relations, of which zero-out or add-remove of a whole sample
    says how far it is from a release without the sample.
    """
    moved = next(
        one.sensitivity
        for one in stated
        if one.unit == "sample" and one.relation != "replace-one" and one.sensitivity is not None
    )
    mu = moved / spec.sigma
    parts = [f"{_p(reconstruction_ceiling(blind, mu))} for {_p(blind)}" for blind in _BLIND]
    return (
        f"right at most {', '.join(parts)} that a blind guess is right (Hayes et al. 2023, any "
        "prior, any measure)"
    )


def bound_lines(
    spec: ReleaseSpec, classes: int, stated: Sequence[RelationStatement], *, summed: bool
) -> list[tuple[str, str]]:
    """Return name and text of each bound.

    Parameters
    ----------
    stated
        As for `reconstruction_words`.
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
    rows.append(("rebuild ceiling", reconstruction_words(spec, stated)))
    return rows


def _p(value: float) -> str:
    return f"{100 * value:.3g} %"
