"""Reading of a mark, with a bound on the chance that weights without it read as well.

Signs are fair coins, independent of weights that were made without them. So whatever the weights:

* the bits that match are at most binomial (n, 1/2), exactly;
* the statistic ``T = e . v / |v|`` over all carriers has ``P(T >= t) <= exp(-t**2 / 2)``
  (Hoeffding 1963, theorem 2, for a Rademacher sum).

The smaller bound counts, times 2 because there were two to choose from. Whoever tries k openings
or suspects multiplies by k again.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clicooper_hpc.errors import EvidenceError
from clicooper_hpc.provenance.marks.carriers import Carriers
from clicooper_hpc.provenance.marks.columns import odd_column_sizes, place_in_columns
from clicooper_hpc.provenance.marks.mark_plan import MarkPlan

__all__ = ["MarkReading", "read_bit_statistics", "read_mark"]


@dataclass(frozen=True, slots=True)
class MarkReading:
    """What was read.

    Parameters
    ----------
    bits
        Number of bits.
    errors
        Bits whose margin is not positive.
    statistic
        T over all carriers.
    log2_p
        log2 of an upper bound on the chance that weights made without this key read as well.
    """

    bits: int
    errors: int
    statistic: float
    log2_p: float

    @property
    def ber(self) -> float:
        """Bit error rate; 0.5 is what unmarked weights show."""
        return self.errors / self.bits


def read_mark(
    tensors: Mapping[str, NDArray[np.floating]], plan: MarkPlan, carriers: Carriers
) -> MarkReading:
    """Read a mark from the tensors of a segment.

    Parameters
    ----------
    tensors
        Floating-point arrays by name; values that are not finite count as 0.
    plan, carriers
        The mark, drawn for these shapes.

    Raises
    ------
    EvidenceError
        A tensor is missing or has another shape than the marked segment's.
    """
    signed = _signed_values(tensors, plan, carriers)
    # Zero counts as wrong: weights of nothing but zeros must not read half a mark.
    errors = int(np.count_nonzero(signed.sum(axis=1) <= 0))
    # Relative to all carriers: the bound must hold for weights of any scale.
    norm = math.sqrt(float((signed**2).sum()))
    statistic = float(signed.sum()) / norm if norm > 0 else 0.0
    return MarkReading(plan.bits, errors, statistic, _log2_p(plan.bits, errors, statistic))


def read_bit_statistics(
    tensors: Mapping[str, NDArray[np.floating]], plan: MarkPlan, carriers: Carriers
) -> NDArray[np.float64]:
    """Return z_j of every bit: float64 [bits]. Raises as `read_mark`."""
    signed = _signed_values(tensors, plan, carriers)
    norms = np.sqrt((signed**2).sum(axis=1))
    return np.asarray(signed.sum(axis=1) / np.where(norms > 0, norms, 1.0), dtype=np.float64)


def _signed_values(
    tensors: Mapping[str, NDArray[np.floating]], plan: MarkPlan, carriers: Carriers
) -> NDArray[np.float64]:
    """Return e * v: float64 [bits, r], v being weights over the size of their output channel."""
    shapes = dict(zip(plan.eligible, carriers.shapes, strict=True))
    for name, shape in shapes.items():
        found = tensors[name].shape if name in tensors else None
        if found != shape:
            raise EvidenceError(
                f"tensor {name!r} {f'has shape {found}' if found else 'is missing'}; "
                f"the marked segment's has shape {shape}",
                where="mark",
                remedy="Align the suspect with the marked segment first.",
            )
    values = np.zeros(carriers.sign.size, dtype=np.float64)
    for placement in place_in_columns(plan.eligible, shapes, carriers.index):
        # One NaN in a suspect would otherwise hide the whole mark.
        tensor = np.nan_to_num(tensors[placement.name], nan=0.0, posinf=0.0, neginf=0.0)
        # From clean columns: embedding a mark does not move the size it is read by.
        size = odd_column_sizes(tensor)[placement.channel]
        weight = tensor.reshape(-1)[placement.weight].astype(np.float64)
        alive = size > 0
        values[placement.carrier] = np.where(alive, weight / np.where(alive, size, 1.0), 0.0)
    return carriers.sign * values.reshape(carriers.sign.shape)


def _log2_p(bits: int, errors: int, statistic: float) -> float:
    """Return log2 of twice the smaller of the binomial tail and Hoeffding's bound, at most 0."""
    # Exact in whole numbers: floating-point tails underflow or lose digits.
    tail = sum(math.comb(bits, wrong) for wrong in range(errors + 1))
    binomial = math.log2(tail) - bits
    hoeffding = -(max(statistic, 0.0) ** 2) / (2 * math.log(2))
    return min(0.0, 1.0 + min(binomial, hoeffding))
