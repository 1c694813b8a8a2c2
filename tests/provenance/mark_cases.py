"""Small networks really trained on digits, for marks."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from clicooper_hpc.data.digits import load_digits_splits

Arrays = dict[str, NDArray[np.float32]]
WIDTHS = (64, 224, 224, 10)


def shapes_of(module: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in module.named_parameters()}


def arrays_of(module: nn.Module) -> Arrays:
    return {name: value.detach().numpy().copy() for name, value in module.state_dict().items()}


@cache
def digits(split: str) -> tuple[Tensor, Tensor]:
    _, splits = load_digits_splits()
    ids = np.arange(len(splits[split]))
    rows = torch.from_numpy(splits[split].read(ids)).flatten(1)
    return rows, torch.from_numpy(splits[split].labels())


def network(seed: int, widths: tuple[int, ...] = WIDTHS) -> nn.Sequential:
    torch.manual_seed(seed)
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        layers += [nn.Linear(inputs, outputs), nn.LayerNorm(outputs), nn.ReLU()]
    return nn.Sequential(*layers[:-2])


def train(
    module: nn.Module,
    steps: int,
    *,
    seed: int = 0,
    rate: float = 0.05,
    after_update: Callable[[int], None] | None = None,
) -> None:
    """Train in place: SGD with momentum and weight decay, batches of 128."""
    rows, targets = digits("train")
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.SGD(module.parameters(), rate, momentum=0.9, weight_decay=5e-4)
    for step in range(steps):
        batch = torch.randint(len(rows), (128,), generator=generator)
        optimizer.zero_grad()
        functional.cross_entropy(module(rows[batch]), targets[batch]).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        if after_update is not None:
            after_update(step)


@torch.no_grad()
def accuracy(module: nn.Module) -> float:
    rows, targets = digits("test")
    return float((module(rows).argmax(1) == targets).float().mean())


@cache
def trained(seed: int = 0, steps: int = 150) -> nn.Sequential:
    """Do not change what this returns."""
    module = network(seed)
    train(module, steps, seed=seed)
    return module
