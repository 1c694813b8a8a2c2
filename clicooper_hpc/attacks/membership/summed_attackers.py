"""What attackers on released sums make of targets: who held them, who got recoloured rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from clicooper_hpc.attacks.harness.adversary import AdversaryView, AuxiliaryData, LabelledImages
from clicooper_hpc.attacks.membership.gradients_membership import (
    informed_rounds_scores,
    repeated_rounds_noise,
)
from clicooper_hpc.attacks.membership.summed_membership import (
    informed_membership_scores,
    reference_membership_scores,
)
from clicooper_hpc.attacks.toolbox.named_rows import (
    named_release,
    public_labelled_rows,
    read_named_classes,
    released_behind_names,
)
from clicooper_hpc.attacks.toolbox.summed_mechanism import (
    RELEASES,
    recorded_mechanism,
    repeated_releases,
)
from clicooper_hpc.attacks.toolbox.summed_rows import LabelledRows, summed_rows

__all__ = ["guess_from_recoloured_rows", "guess_summed_membership"]

_POPULATION: Final = 5000


def guess_summed_membership(
    view: AdversaryView,
    aux: AuxiliaryData,
    targets: LabelledImages,
    swapped: LabelledImages,
    member: NDArray[np.bool_],
    seed: int,
) -> Mapping[str, NDArray[np.float64]]:
    """Score each target from the released sums, larger for a likelier member.

    Parameters
    ----------
    view, aux
        Of whoever held them.
    targets, swapped
        [t] each. One of each pair is a training sample, the other is not: the informed attacker
        knows all samples but the one of them that is there.
    member
        bool [t]: whether it is the target. Only so that the release less all others can be made.
    seed
        Of the choice of reference images.

    Returns
    -------
    Mapping[str, NDArray[np.float64]]
        float64 [t] by variant: ``"MODE, informed"``, and ``"MODE, reference SET"``; of rounds of
        gradients only the informed attacker makes something.
    """
    if view.held is None:
        return {}
    wanted, other = summed_rows(view, targets), summed_rows(view, swapped)
    slots = LabelledRows(
        np.where(member[:, np.newaxis], wanted.rows, other.rows),
        np.where(member, wanted.classes, other.classes),
    )
    rng = np.random.default_rng(seed)
    spec, mode = view.mechanism.spec, view.release
    dealt = rng.integers(0, 1 if spec is None else RELEASES, len(member))
    informed = np.empty(len(member))
    mechanism = None if spec is None else recorded_mechanism(mode, spec, "membership", seed)
    releases = repeated_releases(view.held, mechanism)
    for number, release in enumerate(releases):
        at = np.flatnonzero(dealt == number)
        parts = slots.take(at), wanted.take(at), other.take(at)
        informed[at] = informed_membership_scores(release, *parts)
    if view.held.rounds is not None:
        for number, noise in enumerate(repeated_rounds_noise(view.held.rounds, seed)):
            at = np.flatnonzero(dealt == number)
            parts = slots.take(at), wanted.take(at), other.take(at)
            informed[at] += informed_rounds_scores(view.held.rounds, noise, *parts)
    scores = {f"{mode}, informed": informed}
    for name, known in _membership_references(view, aux, seed).items():
        # Classes of another data set mean nothing here.
        classes = known.classes if name == "same" else None
        scores[f"{mode}, reference {name}"] = reference_membership_scores(
            view.held.released, wanted, known.rows, classes
        )
    return scores


def guess_from_recoloured_rows(
    view: AdversaryView, aux: AuxiliaryData, targets: LabelledImages, seed: int
) -> dict[str, NDArray[np.float64]]:
    """Score each target, float64 [t] by variant, from the sums that recoloured rows speak of.

    ``"recoloured rows, ..."``: sums of the rows by name, all targets compared with that of all
    names. ``"names, ..."``: the sums that the model behind the names was made of, class by class.
    """
    wanted = summed_rows(view, targets)
    references = _membership_references(view, aux, seed)
    # Classes of names are secret, so all targets are compared with the sum of all names.
    plain = named_release(view)
    scores = {
        f"recoloured rows, reference {name}": reference_membership_scores(
            plain, wanted, known.rows, None
        )
        for name, known in references.items()
    }
    behind = released_behind_names(view, public_labelled_rows(view, aux))
    if behind is not None:
        # A few labelled images of the distribution undo the order of the names.
        same = references["same"]
        behind = read_named_classes(behind, same)
        scores["names, reference same"] = reference_membership_scores(
            behind, wanted, same.rows, same.classes
        )
    return scores


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
