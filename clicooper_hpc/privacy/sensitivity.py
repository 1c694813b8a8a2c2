"""Privacy guarantees and their sensitivity: how far a neighbour can move a released row.

Units
-----
sample
    One row against any other row (replace-one, local DP) or against the zero row (zero-out). Rows
    are clipped to an L2 ball of radius C.
element
    One coordinate of one row. Coordinates are clipped to [-c, c], or [0, c]. Says little about a
    whole row: its sample-level epsilon grows with the dimension and is always given with it.
metric
    Two rows closer than D0 before the clip. Rows farther apart get less.

Rows are non-negative by construction, not by trust: the flag makes the clip set negative
coordinates to zero, so x, y >= 0 and |x - y|^2 = |x|^2 + |y|^2 - 2 x.y <= 2 C^2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from clicooper_hpc.errors import UsageError

__all__ = ["Guarantee", "Relation", "Sensitivity", "Unit", "sample_sensitivity", "unit_sensitivity"]

Unit = Literal["sample", "element", "metric"]
Relation = Literal["replace-one", "zero-out"]

_MOST_EPSILON = 1e12
# Keeps every power-of-two grid, and all its multiples below 2^24, normal float32 numbers.
_CLIP_RANGE = (2.0**-60, 2.0**60)


@dataclass(frozen=True, slots=True)
class Guarantee:
    """What is promised about one release of one row.

    Parameters
    ----------
    unit, relation
        Which inputs are neighbours.
    clip
        C, the L2 radius (sample, metric), or c, the bound of one coordinate (element).
    dimension
        Numbers per row.
    epsilon, delta
        The claim between neighbours.
    non_negative
        Whether negative coordinates are clipped to zero.
    metric_distance
        D0; for the metric unit only.

    Raises
    ------
    UsageError
        When the values make no guarantee.
    """

    unit: Unit
    relation: Relation
    clip: float
    dimension: int
    epsilon: float
    delta: float
    non_negative: bool = False
    metric_distance: float | None = None

    def __post_init__(self) -> None:
        # 2 and 2.0 must not make two guarantees: noise is keyed by the digest of these values.
        for name in ("clip", "epsilon", "delta"):
            object.__setattr__(self, name, float(getattr(self, name)))
        if self.metric_distance is not None:
            object.__setattr__(self, "metric_distance", float(self.metric_distance))
        if self.unit not in get_args(Unit):
            raise _refuse("unit", f"unknown unit {self.unit!r}", f"one of {get_args(Unit)}")
        if self.relation not in get_args(Relation):
            known = f"one of {get_args(Relation)}"
            raise _refuse("relation", f"unknown relation {self.relation!r}", known)
        if not _CLIP_RANGE[0] <= self.clip <= _CLIP_RANGE[1]:
            raise _refuse("clip", f"{self.clip!r} is no usable bound", "2^-60 to 2^60")
        if not 1 <= self.dimension <= 2**21:
            raise _refuse("dimension", f"{self.dimension} numbers per row", "1 to 2^21")
        # Beyond it no noise fits the grid of the rows, and finding that out takes long.
        if not 0 < self.epsilon <= _MOST_EPSILON:
            raise _refuse("epsilon", f"{self.epsilon!r} is no epsilon", "above 0, at most 1e12")
        if not 0 < self.delta < 1:
            raise _refuse("delta", f"{self.delta!r} is no delta", "between 0 and 1")
        self._check_metric()

    def _check_metric(self) -> None:
        where, distance = "metric_distance", self.metric_distance
        if self.unit != "metric":
            if distance is not None:
                raise _refuse(where, f"unit {self.unit!r} has no distance", "leave it out")
            return
        # The zero row need not be near any row, so zero-out has no distance to speak of.
        if self.relation != "replace-one":
            raise _refuse("relation", "the metric unit compares two rows", "replace-one")
        if distance is None:
            raise _refuse(where, "the metric unit needs a distance", "above 0")
        if not self.clip * 2.0**-10 <= distance < sample_sensitivity(self).value:
            allowed = "clip / 1024 up to the diameter of the clipped rows (there use unit sample)"
            raise _refuse(where, f"{distance!r} is no usable distance", allowed)

    @property
    def unit_label(self) -> str:
        """The unit in full: two guarantees compose only if these are equal."""
        return f"metric(D0={self.metric_distance!r})" if self.unit == "metric" else self.unit


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """An L2 distance between two neighbours' clipped rows, and why it is that."""

    value: float
    reason: str


def unit_sensitivity(guarantee: Guarantee, grid: float) -> Sensitivity:
    """Return the largest L2 distance between neighbours of the guarantee's own unit.

    Parameters
    ----------
    guarantee
        The promise.
    grid
        Spacing g of the released values. Rows are cut towards zero to multiples of g. That never
        lengthens a row, so only the metric unit pays: two coordinates at distance t end at most
        t + g apart, sqrt(d) g over the row; one more g covers the float64 rounding of the clip
        (well under g / 2 a row, see `clicooper_hpc.privacy.clipping`).
    """
    if guarantee.unit == "sample":
        return sample_sensitivity(guarantee)
    clip, distance = guarantee.clip, guarantee.metric_distance
    if distance is not None:
        # Cutting may move two near rows apart by a step in each coordinate, which this unit alone
        # must pay.
        slack = (math.sqrt(guarantee.dimension) + 1) * grid
        reason = f"D0 + (sqrt(d) + 1) g: rows closer than D0 = {distance!r}, cut to the grid"
        return Sensitivity(_above(distance + slack), reason)
    if guarantee.relation == "zero-out":
        return Sensitivity(clip, "c: one coordinate against zero")
    if guarantee.non_negative:
        return Sensitivity(clip, "c: one coordinate anywhere in [0, c]")
    return Sensitivity(2 * clip, "2 c: one coordinate anywhere in [-c, c]")


def sample_sensitivity(guarantee: Guarantee) -> Sensitivity:
    """Return the largest L2 distance between the clipped rows of two samples.

    For the element and metric units this is what their noise must be compared with to tell the
    epsilon of a whole sample.
    """
    if guarantee.unit == "element":
        radius, name = _above(guarantee.clip * math.sqrt(guarantee.dimension)), "c sqrt(d)"
        if guarantee.relation == "zero-out":
            return Sensitivity(radius, f"{name}: a row against the zero row")
        if guarantee.non_negative:
            return Sensitivity(radius, f"{name}: the diagonal of [0, c]^d")
        return Sensitivity(2 * radius, f"2 {name}: the diagonal of [-c, c]^d")
    clip = guarantee.clip
    if guarantee.relation == "zero-out":
        return Sensitivity(clip, "C: a row against the zero row")
    if guarantee.non_negative:
        reason = "sqrt(2) C: any two rows of the ball without negative coordinates"
        return Sensitivity(_above(math.sqrt(2) * clip), reason)
    return Sensitivity(2 * clip, "2 C: any two rows of the ball of radius C")


def _above(value: float) -> float:
    """Return a float64 at least as large as the real number a few roundings made ``value`` of."""
    return value * (1 + 2.0**-50)


def _refuse(key: str, what: str, allowed: str) -> UsageError:
    return UsageError(what, where=f"privacy.{key}", remedy=f"Allowed: {allowed}.")
