"""Plan of a mark: how many bits, how many weights each, how wide the margin.

A mark of n bits with margin tau moves its N weights by a fraction n * tau**2 / N of their energy,
however many weights r share a bit (minimum-norm projection onto n disjoint half-spaces). The plan
spends a given distortion on bits first (at least 16 energy units each, tau = 4), then on margin.
Its statistic is at least sqrt(n) * tau, which must leave a chance below 2^-128 by Hoeffding's
inequality, exp(-T**2 / 2).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from clicooper_hpc.errors import EvidenceError, UsageError
from clicooper_hpc.provenance.marks.columns import even_column_weights

__all__ = [
    "DISTORTION",
    "LEAST_STATISTIC",
    "MarkPlan",
    "may_carry_mark",
    "parse_plan_tau",
    "plan_mark",
]

DISTORTION: Final = 0.004
#: exp(-T**2 / 2) = 2**-128.
LEAST_STATISTIC: Final = 13.33

_LEAST_ELEMENTS = 4096
_ENERGY_PER_BIT = 16
_LEAST_BITS, _MOST_BITS = 16, 128
_MOST_TAU = 5.0
_MOST_WEIGHTS_PER_BIT = 1024
# z_j cannot exceed sqrt(r); near it, carriers would be all sign and no weight.
_WEIGHTS_PER_SQUARED_TAU = 4
_TAU = re.compile(r"[0-9]{1,3}[.][0-9]{6}")


@dataclass(frozen=True, slots=True)
class MarkPlan:
    """How one segment is marked in each of its stages.

    Parameters
    ----------
    bits
        Number n of bits, each a margin of its own.
    weights_per_bit
        Number r of weights that carry one bit.
    tau
        Margin: every z_j reaches it. A whole number of millionths.
    eligible
        Names of the tensors that carry the mark, in the order in which they are laid end to end.

    Raises
    ------
    EvidenceError
        A value is out of range or a tensor is named twice (its weights could carry two bits, and
        the error probabilities would no longer hold).
    """

    bits: int
    weights_per_bit: int
    tau: float
    eligible: tuple[str, ...]

    def __post_init__(self) -> None:
        if not (0 < self.bits <= 4096 and 0 < self.weights_per_bit <= 65536):
            raise _odd_mark_plan(
                f"{self.bits} bits of {self.weights_per_bit} weights are out of range"
            )
        if not 0 < self.tau < 1000 or float(self.tau_text) != self.tau:
            raise _odd_mark_plan(
                f"the margin {self.tau!r} is not a positive number of millionths below 1000"
            )
        if not self.eligible or len(set(self.eligible)) != len(self.eligible):
            raise _odd_mark_plan("the eligible tensors are none, or one is named twice")

    @property
    def tau_text(self) -> str:
        """The margin as statements spell it: six digits after the point."""
        return f"{self.tau:.6f}"

    @property
    def least_statistic(self) -> float:
        """Statistic T of the untouched mark: at least sqrt(n) * tau."""
        return math.sqrt(self.bits) * self.tau


def parse_plan_tau(text: str) -> float:
    """Read `MarkPlan.tau_text`.

    Raises
    ------
    EvidenceError
        The text is spelt in any other way.
    """
    if not _TAU.fullmatch(text) or f"{float(text):.6f}" != text:
        raise _odd_mark_plan(f"{text!r} is not a margin")
    return float(text)


def plan_mark(shapes: Mapping[str, tuple[int, ...]], *, distortion: float = DISTORTION) -> MarkPlan:
    """Plan the marks of a segment from the shapes of its tensors.

    Carriers are weights of matrices and convolution kernels of at least 4096 elements and two input
    channels; biases, vectors and normalisation layers are left alone.

    Parameters
    ----------
    shapes
        Shape of each tensor by name; axis 0 output channels, axis 1 input channels.
    distortion
        Most of the eligible weights' energy that one mark may change.

    Raises
    ------
    UsageError
        The segment is too small to carry a mark with a chance below 2^-128.
    """
    if not 0 < distortion < 1:
        raise UsageError(
            f"must lie between 0 and 1, not {distortion!r}", where="provenance.mark_distortion"
        )
    # Sorted: carriers are numbered through all tensors, so their order is part of the plan.
    eligible = tuple(sorted(name for name, shape in shapes.items() if may_carry_mark(name, shape)))
    weights = sum(math.prod(shapes[name]) for name in eligible)
    even = sum(even_column_weights(shapes[name]) for name in eligible)
    energy = distortion * weights
    bits = min(max(math.floor(energy / _ENERGY_PER_BIT), _LEAST_BITS), _MOST_BITS)
    # Down to millionths, so that statements hold the very number.
    tau = math.floor(min(_MOST_TAU, math.sqrt(energy / bits)) * 1e6) / 1e6
    each = min(_MOST_WEIGHTS_PER_BIT, even // bits)
    if math.sqrt(bits) * tau < LEAST_STATISTIC or each < _WEIGHTS_PER_SQUARED_TAU * tau**2:
        needed = math.ceil(LEAST_STATISTIC**2 / distortion)
        raise UsageError(
            f"a segment with {weights} eligible weights is too small for a mark: "
            f"{needed} are needed at a distortion of {distortion:g}",
            where="provenance.marks",
            remedy="Widen the segment or merge it with its neighbour, raise "
            'provenance.mark_distortion, or set provenance.marks = "off".',
        )
    return MarkPlan(bits, each, tau, eligible)


def may_carry_mark(name: str, shape: tuple[int, ...]) -> bool:
    """Whether a tensor is eligible: only such tensors hold carriers."""
    *path, last = name.split(".")
    return (
        last.endswith("weight")
        and len(shape) >= 2
        # One column would be an even one without a clean odd one beside it.
        and shape[1] >= 2
        and math.prod(shape) >= _LEAST_ELEMENTS
        # Normalisation can be folded into a neighbour, and a mark in it with it.
        and not any("norm" in part.lower() for part in path)
    )


def _odd_mark_plan(what: str) -> EvidenceError:
    return EvidenceError(what, where="mark plan", remedy="Get an unchanged copy of the enrolment.")
