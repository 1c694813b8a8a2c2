"""How large the numbers of a payload are, and whether all are finite."""

from __future__ import annotations

import math

import torch

__all__ = ["describe_non_finite", "root_mean_square"]

# What a dot product takes; other floats would be summed in their own few bits.
_DOTTED = (torch.float32, torch.float64)


def root_mean_square(tensor: torch.Tensor) -> float:
    """Return the root of the mean square of all numbers in ``tensor``, 0 if there are none.

    Not finite if one of them is not, or if the squares overflow. Floating point, any shape,
    strides and device.
    """
    count = tensor.numel()
    if count == 0:
        return 0.0
    values = tensor.detach()
    if values.dtype in _DOTTED:
        flat = values.reshape(-1)
        # One pass of the processor's library, without a tensor of its own: every message of every
        # micro-batch goes through here twice.
        return math.sqrt(torch.dot(flat, flat).item() / count)
    return float(torch.linalg.vector_norm(values, dtype=torch.float32).item()) / math.sqrt(count)


def describe_non_finite(tensor: torch.Tensor) -> str | None:
    """Return what ``tensor`` holds that is not finite (``NaN`` or ``infinity``), or None.

    Integers are always finite. Any shape, strides and device.
    """
    if not tensor.is_floating_point():
        return None
    values = tensor.detach()
    # NaN and infinity survive every square and sum, so one reduction clears nearly every payload:
    # a tenth of the time of isfinite().all(), which writes a tensor of its own.
    if math.isfinite(root_mean_square(values)):
        return None
    # Large numbers may overflow in the squares alone; only now is each looked at.
    if bool(torch.isfinite(values).all()):
        return None
    return "NaN" if bool(torch.isnan(values).any()) else "infinity"
