"""Epsilon of a release under every neighbouring relation that has a meaning for it.

The claim of a run is for one relation; literature often states another, and the same noise has
another epsilon under each. Here, and nowhere else, one release is stated under all of them:

replace-one
    One sample is another one.
zero-out
    A row is the zero row: what a released row tells against a row that tells nothing. Its
    sensitivity is C, half of 2 C.
add-remove
    One sample more or less in the sums. How many samples there are is public and stays as it was,
    and class sizes are divided by nowhere unless they are noised themselves. A row that is released
    is there or is not, and trainers count rows: for rows, add-remove has no meaning.

Sums of zero rows are sums without these samples, so for class sums zero-out is add-remove.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from clicooper_hpc.privacy.gaussian_mechanism import gaussian_epsilon
from clicooper_hpc.privacy.moments import add_remove_sensitivity
from clicooper_hpc.privacy.release_spec import ReleaseSpec
from clicooper_hpc.privacy.sensitivity import Relation, sample_sensitivity, unit_sensitivity

__all__ = [
    "RelationStatement",
    "StatedRelation",
    "state_row_release",
    "state_summed_release",
    "stated_to_dict",
]

StatedRelation = Literal["replace-one", "zero-out", "add-remove"]

_ROW_NEIGHBOURS: Mapping[Relation, str] = {
    "replace-one": "any other row in its place",
    "zero-out": "the zero row in its place",
}
_NO_ADD_REMOVE = "no meaning for released rows: everybody counts them"
_NO_ZERO_OUT = "no meaning for a distance between rows"


@dataclass(frozen=True, slots=True)
class RelationStatement:
    """What one release promises under one relation.

    Parameters
    ----------
    relation, unit
        Which inputs are neighbours.
    delta
        At which ``epsilon`` is stated.
    neighbours
        What a neighbour is, or why the relation has no meaning, in words.
    epsilon, sensitivity
        None where the relation has no meaning for the release. ``sensitivity`` in the unit of
        sigma.
    """

    relation: StatedRelation
    unit: str
    delta: float
    neighbours: str
    epsilon: float | None = None
    sensitivity: float | None = None

    def words(self) -> str:
        """Return the statement in one line, without the name of the relation."""
        if self.epsilon is None or self.sensitivity is None:
            return self.neighbours
        return (
            f"epsilon {self.epsilon:.6g}, delta {self.delta:.6g} per {self.unit}: "
            f"{self.neighbours}, sensitivity {self.sensitivity:.6g}"
        )


def state_row_release(spec: ReleaseSpec) -> tuple[RelationStatement, ...]:
    """State the release of a row: for the unit of the guarantee, then for whole samples."""
    guarantee = spec.guarantee
    stated = []
    relations: tuple[Relation, ...] = ("replace-one", "zero-out")
    for relation in relations:
        if guarantee.unit == "sample":
            continue
        unit, words = guarantee.unit_label, _unit_neighbours(guarantee.unit, relation)
        if guarantee.unit == "metric" and relation == "zero-out":
            stated.append(RelationStatement(relation, unit, guarantee.delta, _NO_ZERO_OUT))
            continue
        # Not the clip of another relation: the same mechanism, seen by other neighbours.
        moved = unit_sensitivity(replace(guarantee, relation=relation), spec.grid).value
        stated.append(_stated(spec, relation, unit, words, moved))
    for relation in relations:
        # Only unit metric holds its relation fast, and rows of it are clipped as for samples.
        whole = replace(guarantee, unit=_ball(guarantee.unit), metric_distance=None)
        moved = sample_sensitivity(replace(whole, relation=relation)).value
        stated.append(_stated(spec, relation, "sample", _ROW_NEIGHBOURS[relation], moved))
    stated.append(RelationStatement("add-remove", "sample", guarantee.delta, _NO_ADD_REMOVE))
    return tuple(stated)


def state_summed_release(
    spec: ReleaseSpec, *, sums_alone: bool = False, gradient_share: float = 0.0
) -> tuple[RelationStatement, ...]:
    """State a release of moments, or of class sums alone, of rows of norm at most 1.

    ``gradient_share``: the part of mu^2 that pays for rounds of gradients besides; ``spec`` is then
    that of the whole promise.
    """
    one_more = "a sample more or less, how many there are stays public"
    # C = 1; another sample and label move the sums by 2 C, in either mode.
    replaced = sample_sensitivity(replace(spec.guarantee, relation="replace-one")).value
    moved = add_remove_sensitivity(sums_alone=sums_alone, gradient_share=gradient_share)
    return (
        _stated(spec, "replace-one", "sample", "another sample and label in its place", replaced),
        _stated(spec, "add-remove", "sample", one_more, moved),
    )


def stated_to_dict(
    stated: tuple[RelationStatement, ...],
) -> dict[str, dict[str, dict[str, str]]]:
    """Return texts by unit and relation, to be stored; floats read back to the bit.

    Where a relation has no meaning there is neither ``epsilon`` nor ``sensitivity``.
    """
    found: dict[str, dict[str, dict[str, str]]] = {}
    for one in stated:
        # The unit without its distance: that stands in the guarantee.
        entry = found.setdefault(one.unit.partition("(")[0], {})
        values = {"neighbours": one.neighbours, "delta": repr(one.delta)}
        if one.epsilon is not None and one.sensitivity is not None:
            values |= {"epsilon": repr(one.epsilon), "sensitivity": repr(one.sensitivity)}
        entry[one.relation.replace("-", "_")] = values
    return found


def _stated(
    spec: ReleaseSpec, relation: StatedRelation, unit: str, neighbours: str, moved: float
) -> RelationStatement:
    delta = spec.guarantee.delta
    epsilon = gaussian_epsilon(spec.sigma, delta, moved)
    return RelationStatement(relation, unit, delta, neighbours, epsilon, moved)


def _ball(unit: str) -> Literal["sample", "element"]:
    return "element" if unit == "element" else "sample"


def _unit_neighbours(unit: str, relation: Relation) -> str:
    if unit == "metric":
        return "a row closer than D0 in its place"
    if relation == "zero-out":
        return "zero in the place of one number of a row"
    return "any other number in the place of one number of a row"
