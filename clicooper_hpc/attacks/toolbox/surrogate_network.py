"""Networks an attacker trains for itself, and the little that is needed to train them.

Global generators of torch are left as they were; the same seed gives the same bits on a CPU.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from clicooper_hpc.attacks.toolbox.attack_device import attack_device

__all__ = [
    "PositionMean",
    "SegmentChain",
    "SurrogateTraining",
    "evaluate_network",
    "fit_network",
    "image_network",
    "reinitialised_network",
    "row_network",
    "seed_network",
]

_BATCH = 128
_PASS_ROWS = 512
_HIDDEN = 256


class SegmentChain(nn.Module):
    """Modules one after another, without the calls of a forward of their own."""

    def __init__(self, parts: Iterable[nn.Module]) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)

    def forward(self, rows: Tensor) -> Tensor:
        """Apply all parts to ``rows``."""
        for part in self.parts:
            rows = part(rows)
        return rows


class PositionMean(nn.Module):
    """Mean over all axes after the first of a row; vectors pass."""

    def forward(self, rows: Tensor) -> Tensor:
        """Apply the layer to ``rows``."""
        return rows.flatten(2).mean(2) if rows.ndim > 2 else rows


def image_network(shape: tuple[int, ...], outputs: int) -> nn.Module:
    """Return a small convolution network for images [channels, height, width].

    Three strided convolution blocks with batch normalisation, then a hidden layer.
    """
    layers: list[nn.Module] = []
    channels, height, width = shape
    for wide in (32, 64, 128):
        # Images of a few pixels would be strided away to nothing.
        stride = 2 if min(height, width) >= 4 else 1
        layers += [
            nn.Conv2d(channels, wide, 3, stride=stride, padding=1, bias=False),
            nn.BatchNorm2d(wide),
            nn.ReLU(),
        ]
        channels, height, width = wide, math.ceil(height / stride), math.ceil(width / stride)
    flat = channels * height * width
    layers += [nn.Flatten(), nn.Linear(flat, _HIDDEN), nn.ReLU(), nn.Linear(_HIDDEN, outputs)]
    return nn.Sequential(*layers)


def row_network(shape: tuple[int, ...], outputs: int) -> nn.Module:
    """Return a network for clean or released rows: a perceptron, or one convolution for maps."""
    if len(shape) == 3:
        return nn.Sequential(
            nn.Conv2d(shape[0], 128, 3, stride=2 if min(shape[1:]) >= 8 else 1, padding=1),
            nn.GroupNorm(8, 128),
            nn.ReLU(),
            PositionMean(),
            nn.Linear(128, _HIDDEN),
            nn.ReLU(),
            nn.Linear(_HIDDEN, outputs),
        )
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(math.prod(shape), _HIDDEN),
        nn.LayerNorm(_HIDDEN),
        nn.ReLU(),
        nn.Linear(_HIDDEN, _HIDDEN),
        nn.LayerNorm(_HIDDEN),
        nn.ReLU(),
        nn.Linear(_HIDDEN, outputs),
    )


def seed_network(seed: int, network: nn.Module) -> nn.Module:
    """Draw all weights of ``network`` again from ``seed``; returns it."""
    # PyTorch's own generator draws weights and dropout: forked, so that one attack does not change
    # the chance of the next.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for module in network.modules():
            reset = getattr(module, "reset_parameters", None)
            if callable(reset):
                reset()
    return network


def reinitialised_network(segments: Iterable[nn.Module], seed: int) -> nn.Module:
    """Return segments of the same architecture with fresh weights; the given stay as they are."""
    return seed_network(seed, SegmentChain(deepcopy(list(segments))))


@dataclass(frozen=True, slots=True, eq=False)
class SurrogateTraining:
    """How a network is trained.

    Parameters
    ----------
    epochs
        Passes over the rows; at least 60 steps are made whatever their number.
    seed
        Of the sample order, of dropout and of shifts.
    learning_rate
        At the start.
    slow
        Modules of the network that learn at a tenth of it: they hold stolen weights.
    images
        Whether rows are images, which are then flipped and shifted by up to a tenth.
    """

    epochs: int
    seed: int
    learning_rate: float = 2e-3
    slow: Sequence[nn.Module] = ()
    images: bool = False


def fit_network(
    network: nn.Module,
    rows: NDArray[np.float32],
    targets: NDArray[np.float64],
    training: SurrogateTraining,
) -> nn.Module:
    """Train with Adam and a cosine schedule on cross-entropy with probabilities as targets.

    Parameters
    ----------
    network
        Trained in place, handed back in evaluation mode on the CPU.
    rows
        float32 [n, ...].
    targets
        float64 [n, outputs], each row a distribution.
    training
        Passes, chance and rates.
    """
    device = attack_device()
    network.to(device).train()
    careful = [value for module in training.slow for value in module.parameters()]
    known = {id(value) for value in careful}
    free = [value for value in network.parameters() if id(value) not in known]
    rate = training.learning_rate
    # A fresh head's first gradients would wash out the stolen weights below it.
    groups = [{"params": free, "lr": rate}, {"params": careful, "lr": rate / 10}]
    optimizer = torch.optim.Adam([group for group in groups if group["params"]])
    # Few labelled images make an epoch of one step, and a network of one step has learnt nothing.
    steps = max(60, training.epochs * math.ceil(len(rows) / _BATCH))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    inputs = torch.from_numpy(np.ascontiguousarray(rows))
    wanted = torch.from_numpy(np.ascontiguousarray(targets, dtype=np.float32))
    rng = np.random.default_rng(training.seed)
    order = np.empty(0, dtype=np.int64)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(training.seed)
        for _ in range(steps):
            if not len(order):
                order = rng.permutation(len(rows))
            chosen, order = torch.from_numpy(order[:_BATCH].copy()), order[_BATCH:]
            if len(chosen) < 2:  # batch normalisation has no statistics of one row
                continue
            batch = inputs[chosen]
            if training.images:
                batch = _augmented_images(batch, rng)
            optimizer.zero_grad()
            answers = network(batch.to(device)).flatten(1)
            loss = functional.cross_entropy(answers, wanted[chosen].to(device))
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
    return network.cpu().eval()


@torch.no_grad()
def evaluate_network(network: nn.Module, rows: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return softmax probabilities float64 [n, outputs] of float32 [n, ...]."""
    # Batch normalisation and dropout of the victim must not depend on who asks together.
    network.eval()
    device = next((value.device for value in network.parameters()), torch.device("cpu"))
    parts = [
        torch.softmax(network(torch.from_numpy(block).to(device)).flatten(1).double(), dim=1).cpu()
        for block in (
            np.ascontiguousarray(rows[start : start + _PASS_ROWS])
            for start in range(0, len(rows), _PASS_ROWS)
        )
    ]
    return torch.cat(parts).numpy()


def _augmented_images(batch: Tensor, rng: np.random.Generator) -> Tensor:
    """Flip half of the images, shift all by the same few pixels (reflected at the border)."""
    flip = torch.from_numpy(rng.random(len(batch)) < 0.5)
    batch = torch.where(flip[:, None, None, None], batch.flip(3), batch)
    # Small images are shifted less: a tenth, as far as that is a pixel.
    reach = min(batch.shape[2:]) // 10
    if not reach:
        return batch
    down, right = (int(value) for value in rng.integers(0, 2 * reach + 1, 2))
    padded = functional.pad(batch, (reach, reach, reach, reach), mode="reflect")
    return padded[:, :, down : down + batch.shape[2], right : right + batch.shape[3]]
