"""Starting a backward pass from a gradient that another segment sent."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

__all__ = ["backward_from_gradient"]


def backward_from_gradient(output: Tensor, gradient: Tensor) -> None:
    """Do what ``output.backward(gradient)`` does, to the bit.

    Torch compares the two shapes there by its symbolic mathematics, which takes most of a second to
    import and then some microseconds in every micro-batch.

    Parameters
    ----------
    output
        Of any shape, part of a graph that wants gradients.
    gradient
        Of the same shape and dtype.

    Raises
    ------
    ValueError
        It has another shape or dtype.
    """
    if gradient.shape != output.shape or gradient.dtype != output.dtype:
        raise ValueError(
            f"a gradient {gradient.dtype} {tuple(gradient.shape)} for an output "
            f"{output.dtype} {tuple(output.shape)}"
        )
    start: Tensor = _GivenGradient.apply(output, gradient)  # type: ignore[no-untyped-call]
    start.backward()  # type: ignore[no-untyped-call]


class _GivenGradient(torch.autograd.Function):
    """A number whose gradient with respect to the output is what was given."""

    @staticmethod
    def forward(ctx: Any, output: Tensor, gradient: Tensor) -> Tensor:
        ctx.save_for_backward(gradient)
        return output.new_zeros(())

    @staticmethod
    def backward(ctx: Any, *_: Any) -> tuple[Tensor, None]:
        (gradient,) = ctx.saved_tensors
        return gradient, None
