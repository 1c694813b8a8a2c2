"""`Affine`: values of every feature, or channel of images, shifted and scaled by constants."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from clicooper_hpc.errors import DataError

__all__ = ["Affine"]


@dataclass(frozen=True, slots=True)
class Affine:
    """``(x - offset) * factor`` in float64, rounded to float32; an operation of a front.

    ``offset`` and ``factor`` float64 ``[F]``: F = D for vectors ``[D]``, F = C for images
    ``[C, H, W]``.
    """

    offset: Tensor = field(repr=False)
    factor: Tensor = field(repr=False)

    def output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        """See `clicooper_hpc.fronts.operations.Operation`."""
        if input_shape[0] != len(self.offset):
            raise DataError(
                f"rows have {input_shape[0]} features, {len(self.offset)} are scaled", where="front"
            )
        return input_shape

    def non_negative(self, before: bool) -> bool:
        """See `clicooper_hpc.fronts.operations.Operation`: a value may lie below its offset."""
        return False

    def operation_settings(self) -> dict[str, object]:
        """See `clicooper_hpc.fronts.operations.Operation`."""
        return {"stage": "affine", "features": len(self.offset)}

    def operation_tensors(self) -> dict[str, Tensor]:
        """See `clicooper_hpc.fronts.operations.Operation`."""
        return {"offset": self.offset, "factor": self.factor}

    def apply(self, x: Tensor) -> Tensor:
        """See `clicooper_hpc.fronts.operations.Operation`."""
        shape = (1, -1, *(1 for _ in x.shape[2:]))
        wide = x.to(torch.float64)
        return ((wide - self.offset.view(shape)) * self.factor.view(shape)).to(torch.float32)
