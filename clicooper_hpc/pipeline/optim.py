"""Optimizers and gradient clipping of one segment."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import nn

__all__ = ["build_optimizer", "scale_gradients", "squared_gradient_norm"]


def build_optimizer(
    parameters: Sequence[nn.Parameter],
    *,
    name: str,
    learning_rate: float,
    momentum: float,
    weight_decay: float,
    betas: tuple[float, float],
) -> torch.optim.Optimizer | None:
    """Return the optimizer of a segment, or None for a segment without parameters."""
    # A segment of layers without weights (pooling, activation) is allowed; torch refuses an empty
    # list.
    if not parameters:
        return None
    if name == "adamw":
        return torch.optim.AdamW(
            parameters, lr=learning_rate, betas=betas, weight_decay=weight_decay
        )
    return torch.optim.SGD(
        parameters, lr=learning_rate, momentum=momentum, weight_decay=weight_decay
    )


def squared_gradient_norm(parameters: Iterable[nn.Parameter], start: float = 0.0) -> float:
    """Add each gradient's squared L2 norm to ``start``, one parameter after the other.

    Float64 sums in the order of the whole network: a total handed from segment to segment is the
    same to the bit however the network is cut.
    """
    total = start
    for parameter in parameters:
        if parameter.grad is not None:
            total += float(parameter.grad.double().square().sum().item())
    return total


def scale_gradients(parameters: Iterable[nn.Parameter], total_squared: float, limit: float) -> None:
    """Scale gradients in place so that a global norm of sqrt(total_squared) becomes <= limit."""
    norm = total_squared**0.5
    # Gradients within the limit stay as they are, to the bit.
    if norm <= limit:
        return
    factor = limit / norm
    for parameter in parameters:
        if parameter.grad is not None:
            parameter.grad.mul_(factor)
