"""Optimizers and gradient clipping of one segment.

The updates are those of ``torch.optim.SGD`` and ``torch.optim.AdamW``, by the functions that these
classes call. The classes themselves import torch's compiler when they are made, more than a second
on every rank, for a decorator that does nothing here.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import final

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw
from torch.optim.sgd import sgd

__all__ = [
    "AdamWOptimizer",
    "SGDOptimizer",
    "SegmentOptimizer",
    "build_optimizer",
    "scale_gradients",
    "squared_gradient_norm",
]

_ADAMW_EPS = 1e-8  # torch's default


class SegmentOptimizer(ABC):
    """Updates ``parameters`` in place from their gradients.

    Attributes
    ----------
    parameters
        At least one.
    state
        One entry per parameter: its tensors by the names that torch gives them, empty before its
        first update.
    """

    def __init__(self, parameters: Sequence[nn.Parameter]) -> None:
        self.parameters = list(parameters)
        self.state: list[dict[str, Tensor]] = [{} for _ in self.parameters]

    def clear_gradients(self) -> None:
        """Forget all gradients."""
        for parameter in self.parameters:
            # None and not zeros: the first backward then stores its gradient instead of adding it
            # to 0.
            parameter.grad = None

    @final
    def update_parameters(self, learning_rate: float) -> None:
        """Make one update; a parameter without a gradient stays as it is, as does its state."""
        trained = [n for n, parameter in enumerate(self.parameters) if parameter.grad is not None]
        if trained:
            with torch.no_grad():
                self._update(
                    [self.parameters[number] for number in trained],
                    [self._gradient(number) for number in trained],
                    [self.state[number] for number in trained],
                    learning_rate,
                )

    def restore_state(self, state: Mapping[int, Mapping[str, Tensor]]) -> None:
        """Take over copies of the tensors of each parameter's number; others start afresh.

        Raises
        ------
        KeyError
            Where a parameter does not have all the tensors of this optimizer, or has others.
        """
        for number, parameter in enumerate(self.parameters):
            given = state.get(number, {})
            if given and given.keys() != self.tensor_names():
                raise KeyError(*sorted(given.keys() ^ self.tensor_names()))
            self.state[number] = {
                # A counter stays on the CPU, as in torch.
                name: value.to(parameter.device if value.ndim else "cpu", copy=True)
                for name, value in given.items()
            }

    @abstractmethod
    def tensor_names(self) -> set[str]:
        """Return the names of the tensors that a parameter has after its first update."""

    @abstractmethod
    def _update(
        self,
        parameters: list[Tensor],
        gradients: list[Tensor],
        state: list[dict[str, Tensor]],
        learning_rate: float,
    ) -> None: ...

    def _gradient(self, number: int) -> Tensor:
        gradient = self.parameters[number].grad
        if gradient is None:
            raise ValueError(f"parameter {number} has no gradient")
        return gradient


class SGDOptimizer(SegmentOptimizer):
    """Stochastic gradient descent with momentum, as ``torch.optim.SGD``."""

    def __init__(
        self, parameters: Sequence[nn.Parameter], *, momentum: float, weight_decay: float
    ) -> None:
        super().__init__(parameters)
        self.momentum = momentum
        self.weight_decay = weight_decay

    def tensor_names(self) -> set[str]:
        """See `SegmentOptimizer`."""
        return {"momentum_buffer"} if self.momentum else set()

    def _update(
        self,
        parameters: list[Tensor],
        gradients: list[Tensor],
        state: list[dict[str, Tensor]],
        learning_rate: float,
    ) -> None:
        buffers = [entry.get("momentum_buffer") for entry in state]
        sgd(
            parameters,
            gradients,
            buffers,
            weight_decay=self.weight_decay,
            momentum=self.momentum,
            lr=learning_rate,
            dampening=0.0,
            nesterov=False,
            maximize=False,
        )
        for entry, buffer in zip(state, buffers, strict=True):
            if buffer is not None:
                entry["momentum_buffer"] = buffer


class AdamWOptimizer(SegmentOptimizer):
    """Adam with decoupled weight decay, as ``torch.optim.AdamW``."""

    def __init__(
        self,
        parameters: Sequence[nn.Parameter],
        *,
        betas: tuple[float, float],
        weight_decay: float,
    ) -> None:
        super().__init__(parameters)
        self.betas = betas
        self.weight_decay = weight_decay

    def tensor_names(self) -> set[str]:
        """See `SegmentOptimizer`."""
        return {"step", "exp_avg", "exp_avg_sq"}

    def _update(
        self,
        parameters: list[Tensor],
        gradients: list[Tensor],
        state: list[dict[str, Tensor]],
        learning_rate: float,
    ) -> None:
        for parameter, entry in zip(parameters, state, strict=True):
            if not entry:
                entry["step"] = torch.tensor(0.0)
                entry["exp_avg"] = torch.zeros_like(parameter)
                entry["exp_avg_sq"] = torch.zeros_like(parameter)
        adamw(
            parameters,
            gradients,
            [entry["exp_avg"] for entry in state],
            [entry["exp_avg_sq"] for entry in state],
            [],
            [entry["step"] for entry in state],
            amsgrad=False,
            beta1=self.betas[0],
            beta2=self.betas[1],
            lr=learning_rate,
            weight_decay=self.weight_decay,
            eps=_ADAMW_EPS,
            maximize=False,
        )


def build_optimizer(
    parameters: Sequence[nn.Parameter],
    *,
    name: str,
    momentum: float,
    weight_decay: float,
    betas: tuple[float, float],
) -> SegmentOptimizer | None:
    """Return the optimizer of a segment, or None for a segment without parameters."""
    # A segment of layers without weights (pooling, activation) is allowed.
    if not parameters:
        return None
    if name == "adamw":
        return AdamWOptimizer(parameters, betas=betas, weight_decay=weight_decay)
    return SGDOptimizer(parameters, momentum=momentum, weight_decay=weight_decay)


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
