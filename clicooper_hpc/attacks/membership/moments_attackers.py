"""What attackers on moments make of targets: who held them, and who was given recoloured rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from clicooper_hpc.attacks.harness.adversary import AdversaryView, AuxiliaryData, LabelledImages
from clicooper_hpc.attacks.membership.moments_membership import (
    RELEASES,
    informed_membership_scores,
    moments_of_rows,
    reference_membership_scores,
    repeated_releases,
)
from clicooper_hpc.attacks.toolbox.summed_rows import LabelledRows, summed_rows

__all__ = ["guess_from_recoloured_rows", "guess_moments_membership"]

_POPULATION: Final = 5000


def guess_moments_membership(
    view: AdversaryView,
    aux: AuxiliaryData,
    targets: LabelledImages,
    swapped: LabelledImages,
    member: NDArray[np.bool_],
    seed: int,
) -> Mapping[str, NDArray[np.float64]]:
    """Score each target from the released moments, larger for a likelier member.

    Parameters
    ----------
    view, aux
        Of whoever held the moments.
    targets, swapped
        [t] each. One of each pair is a training sample, the other is not: the informed attacker
        knows all samples but the one of them that is there.
    member
        bool [t]: whether it is the target. Only so that the moments less all others can be made.
    seed
        Of the choice of reference images.

    Returns
    -------
    Mapping[str, NDArray[np.float64]]
        float64 [t] by variant: ``"moments, informed"``, and ``"moments, reference SET"``.
    """
    if view.moments is None:
        return {}
    wanted, other = summed_rows(view, targets), summed_rows(view, swapped)
    slots = LabelledRows(
        np.where(member[:, np.newaxis], wanted.rows, other.rows),
        np.where(member, wanted.classes, other.classes),
    )
    rng = np.random.default_rng(seed)
    dealt = rng.integers(0, 1 if view.mechanism.spec is None else RELEASES, len(member))
    informed = np.empty(len(member))
    releases = repeated_releases(view.moments, view.mechanism.spec, seed)
    for number, release in enumerate(releases):
        at = np.flatnonzero(dealt == number)
        parts = slots.take(at), wanted.take(at), other.take(at)
        informed[at] = informed_membership_scores(release, *parts)
    scores = {"moments, informed": informed}
    for name, known in _membership_references(view, aux, seed).items():
        # Classes of another data set mean nothing here.
        classes = known.classes if name == "same" else None
        scores[f"moments, reference {name}"] = reference_membership_scores(
            view.moments.released, wanted, known.rows, classes
        )
    return scores


def guess_from_recoloured_rows(
    view: AdversaryView, aux: AuxiliaryData, targets: LabelledImages, seed: int
) -> dict[str, NDArray[np.float64]]:
    """Score each target, float64 [t] by variant, from the moments that recoloured rows show."""
    spec = view.mechanism.spec
    moments = moments_of_rows(
        view.rows.reshape(len(view.rows), -1),
        view.sub_labels,
        view.sub_label_count,
        view.samples,
        0.0 if spec is None else spec.sigma,
    )
    wanted = summed_rows(view, targets)
    # Classes of names are secret, so all targets are compared with the sum of all names.
    return {
        f"recoloured rows, reference {name}": reference_membership_scores(
            moments, wanted, known.rows, None
        )
        for name, known in _membership_references(view, aux, seed).items()
    }


def _membership_references(
    view: AdversaryView, aux: AuxiliaryData, seed: int
) -> dict[str, LabelledRows]:
    """Return rows of images that an attacker may have, by name of the set."""
    rng = np.random.default_rng(seed)
    found = {}
    for name, images in (("same", aux.same), ("public", aux.public)):
        if images is not None:
            chosen = rng.permutation(len(images))[:_POPULATION]
            drawn = LabelledImages(images.images[chosen], images.classes[chosen])
            found[name] = summed_rows(view, drawn)
    return found
