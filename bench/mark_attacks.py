"""What may happen to a marked convolutional network: training on, compression, disguise.

The network is a front and a segment of [convolution, BatchNorm, ReLU] with pools. BatchNorm, and no
bias before it, lets channels be permuted and scaled and normalisation be folded without changing
what the network computes.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

Arrays = dict[str, NDArray[Any]]
Term = Callable[[], Tensor]
BATCH = 128
TEMPERATURE = 4.0


class Mean(nn.Module):
    def forward(self, maps: Tensor) -> Tensor:
        return maps.mean((2, 3))


def _block(inputs: int, outputs: int) -> list[nn.Module]:
    kernel = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
    return [kernel, nn.BatchNorm2d(outputs), nn.ReLU()]


class Network(nn.Module):
    """``segment`` is what a trainer holds and marks."""

    def __init__(self, channels: int, width: int, classes: int, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.front = nn.Sequential(*_block(channels, width))
        self.segment = nn.Sequential(
            *_block(width, width),
            nn.MaxPool2d(2),
            *_block(width, 2 * width),
            *_block(2 * width, 2 * width),
            nn.MaxPool2d(2),
            *_block(2 * width, 4 * width),
            *_block(4 * width, 4 * width),
            Mean(),
            nn.Linear(4 * width, classes),
        )

    def forward(self, rows: Tensor) -> Tensor:
        return self.segment(self.front(rows))  # type: ignore[no-any-return]

    def arrays(self) -> Arrays:
        """Return the segment's tensors."""
        return {k: v.detach().cpu().numpy().copy() for k, v in self.segment.state_dict().items()}

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: tuple(value.shape) for name, value in self.segment.named_parameters()}

    def last_kernel(self) -> str:
        return [name for name, value in self.segment.named_parameters() if value.ndim == 4][-1]


class Data:
    """Rows and labels on the device."""

    def __init__(self, rows: Tensor, labels: Tensor) -> None:
        self.rows, self.labels = rows, labels

    def batches(self, epochs: int, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
        generator = torch.Generator().manual_seed(seed)
        for _ in range(epochs):
            order = torch.randperm(len(self.rows), generator=generator).to(self.rows.device)
            for ids in order.split(BATCH)[: max(1, len(order) // BATCH)]:  # type: ignore[no-untyped-call]
                yield self.rows[ids], self.labels[ids]


def train(
    network: Network,
    data: Data,
    epochs: int,
    *,
    rate: float,
    seed: int,
    fall: bool = False,
    term: Term | None = None,
    after_update: Callable[[int], None] | None = None,
    teacher: Network | None = None,
) -> Network:
    """Train in place: SGD, momentum, weight decay; ``fall`` divides the rate by 10 at two thirds.

    With a ``teacher`` its outputs are the targets (Hinton et al. 2015).
    """
    network.train()
    optimizer = torch.optim.SGD(network.parameters(), rate, momentum=0.9, weight_decay=5e-4)
    total = epochs * max(1, len(data.rows) // BATCH)
    for step, (rows, labels) in enumerate(data.batches(epochs, seed)):
        if fall and step == total * 2 // 3:
            optimizer.param_groups[0]["lr"] = rate / 10
        optimizer.zero_grad()
        outputs = network(rows)
        if teacher is None:
            loss = functional.cross_entropy(outputs, labels)
        else:
            with torch.no_grad():
                soft = functional.softmax(teacher(rows) / TEMPERATURE, 1)
            loss = functional.cross_entropy(outputs / TEMPERATURE, soft) * TEMPERATURE**2
        if term is not None:
            loss = loss + term()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        if after_update is not None:
            after_update(step)
    return network.eval()


@torch.no_grad()
def accuracy(network: Network, data: Data) -> float:
    network.eval()
    chosen = [network(rows).argmax(1) for rows in data.rows.split(1000)]  # type: ignore[no-untyped-call]
    return float((torch.cat(chosen) == data.labels).double().mean())


def _kernels(network: Network) -> list[nn.Parameter]:
    return [value for value in network.segment.parameters() if value.ndim >= 2]


@torch.no_grad()
def pruned(network: Network, fraction: float) -> Network:
    """Set the smallest weights of the segment to zero, all tensors together."""
    network = copy.deepcopy(network)
    sizes = torch.cat([value.abs().flatten() for value in _kernels(network)])
    least = sizes.sort().values[int(fraction * (len(sizes) - 1))]
    for value in _kernels(network):
        value[value.abs() < least] = 0
    return network


@torch.no_grad()
def quantised(network: Network, bits: int) -> Network:
    """Round each output channel to a symmetric integer grid."""
    network = copy.deepcopy(network)
    most = 2 ** (bits - 1) - 1
    for value in _kernels(network):
        rows = value.view(len(value), -1)
        step = rows.abs().amax(1, keepdim=True).clamp(min=1e-12) / most
        rows.copy_((rows / step).round() * step)
    return network


@torch.no_grad()
def halved(network: Network) -> Network:
    """Round to bfloat16."""
    network = copy.deepcopy(network)
    for value in network.segment.parameters():
        value.copy_(value.bfloat16())
    return network


def _pairs(network: Network) -> Iterator[tuple[nn.Conv2d, nn.BatchNorm2d, nn.Module]]:
    layers = [m for m in network.segment if isinstance(m, (nn.Conv2d, nn.BatchNorm2d, nn.Linear))]
    for place, layer in enumerate(layers):
        if isinstance(layer, nn.Conv2d):
            norm, following = layers[place + 1 : place + 3]
            assert isinstance(norm, nn.BatchNorm2d)
            yield layer, norm, following


def _statistics(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    assert norm.running_mean is not None
    assert norm.running_var is not None
    return norm.running_mean, norm.running_var


@torch.no_grad()
def disguised(network: Network, seed: int) -> Network:
    """Permute all inner channels, and scale them by factors with a log-normal spread of 1."""
    network = copy.deepcopy(network)
    generator = torch.Generator().manual_seed(seed)
    for kernel, norm, following in _pairs(network):
        count = kernel.out_channels
        order = torch.randperm(count, generator=generator).to(kernel.weight.device)
        scale = torch.exp(torch.randn(count, generator=generator)).to(kernel.weight.device)
        mean, variance = _statistics(norm)
        for value in (kernel.weight, norm.weight, norm.bias, mean, variance):
            value.copy_(value[order])
        kernel.weight.mul_(scale[:, None, None, None])
        mean.mul_(scale)
        # The small number that normalisation adds to the variance must not grow with it.
        variance.copy_((variance + norm.eps) * scale**2 - norm.eps)
        weight = following.get_parameter("weight")
        weight.copy_(weight[:, order])
    return network


@torch.no_grad()
def folded(network: Network) -> Network:
    """Fold BatchNorm into the kernels; what is left of it only adds."""
    network = copy.deepcopy(network)
    for kernel, norm, _ in _pairs(network):
        mean, variance = _statistics(norm)
        scale = norm.weight / (variance + norm.eps).sqrt()
        kernel.weight.mul_(scale[:, None, None, None])
        norm.bias.sub_(mean * scale)
        norm.weight.fill_(1)
        mean.zero_()
        variance.fill_(1 - norm.eps)
    return network
