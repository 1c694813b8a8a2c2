"""How large the numbers of a payload are, and whether all are finite.

One pass decides both: NaN and infinity survive every square and sum.
"""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

__all__ = ["describe_non_finite", "flat_numbers", "name_non_finite", "root_mean_square"]

# 16-bit floats would be summed in their own few bits, and numpy has no bfloat16 at all.
_SUMMED = (torch.float32, torch.float64)

# Expected here, and of no use to a reader; `numpy.errstate` around each message would cost as much
# as the message's check. Of this module alone.
warnings.filterwarnings(
    "ignore",
    "overflow encountered",
    RuntimeWarning,
    module=r"clicooper_hpc\.transport\.finite_payload",
)


def root_mean_square(numbers: NDArray[Any]) -> float:
    """Return the root of the mean square of ``numbers`` (float32 or float64, [n]), 0 if n is 0.

    NaN if one of them is NaN, else infinity if one is infinite; otherwise finite, however large
    they are.
    """
    count = numbers.size
    if count == 0:
        return 0.0
    # Every message of every micro-batch comes through here twice, between other work: what costs is
    # code that is not in the caches, so this is the call with the least of it.
    total = float(numbers.dot(numbers))
    if math.isfinite(total):
        return math.sqrt(total / count)
    # Large numbers may overflow in their squares alone; only now is each looked at.
    largest = float(np.abs(numbers).max())
    if not math.isfinite(largest):
        return largest
    scaled = numbers / numbers.dtype.type(largest)
    return largest * math.sqrt(float(scaled.dot(scaled)) / count)


def flat_numbers(tensor: torch.Tensor) -> NDArray[Any]:
    """Return the numbers of a floating-point ``tensor`` as float32 or float64 [n].

    Any shape, strides and device; a view where it can be.
    """
    values = tensor.detach().cpu().reshape(-1)
    return (values if values.dtype in _SUMMED else values.float()).numpy()


def name_non_finite(magnitude: float) -> str | None:
    """Return what numbers of this root mean square hold: ``NaN``, ``infinity``, or None of them."""
    if math.isfinite(magnitude):
        return None
    return "NaN" if math.isnan(magnitude) else "infinity"


def describe_non_finite(tensor: torch.Tensor) -> str | None:
    """Return what ``tensor`` holds that is not finite (``NaN`` or ``infinity``), or None.

    Integers are always finite. Any shape, strides and device.
    """
    if not tensor.is_floating_point():
        return None
    return name_non_finite(root_mean_square(flat_numbers(tensor)))
