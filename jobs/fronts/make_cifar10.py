"""Make cifar10-conv64.safetensors: a front for images that has never seen CIFAR-100.

Trains the network of cifar100-conv64 (four 3x3 convolutions, 64 outputs) on the CIFAR-10 training
images of an HDF5 data file and drops its head. ReLU stands between the 64 outputs and the head:
with two linear layers in a row, ten classes would shape only ten directions of the 64. No label
smoothing: it makes features less transferable (Kornblith et al., "Why do better loss functions
lead to less transferable features?", NeurIPS 2021). 12 minutes of one core:

    python jobs/fronts/make_cifar10.py data/cifar10.h5 jobs/fronts/cifar10-conv64.safetensors

Every random choice comes from seed 0; another machine or torch may give other last bits.
"""

from __future__ import annotations

import argparse
import logging
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from clicooper_hpc.data.dataset import open_dataset
from clicooper_hpc.fronts.layer_spec import Layer, build_layers, parse_layers
from clicooper_hpc.fronts.weights import WeightsDescription, save_weights

EPOCHS, BATCH, SHIFT, PEAK_RATE = 16, 128, 4, 0.1
CHANNELS, FEATURES, CLASSES, SIDE = (48, 96, 192, 256), 64, 10, 32
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)


def layers() -> tuple[Layer, ...]:
    """Return the layer list; index for index that of cifar100-conv64, so cuts mean the same."""
    listed: list[dict[str, object]] = []
    before = 3
    for channels in CHANNELS:
        stride = 2 if listed else 1
        listed += [
            {
                "type": "Conv2d",
                "in_channels": before,
                "out_channels": channels,
                "kernel_size": 3,
                "stride": stride,
                "padding": 1,
                "bias": False,
            },
            {"type": "BatchNorm2d", "num_features": channels},
            {"type": "ReLU"},
        ]
        before = channels
    listed += [
        {"type": "AdaptiveAvgPool2d", "output_size": 1},
        {"type": "Flatten"},
        {"type": "Linear", "in_features": before, "out_features": FEATURES},
    ]
    return parse_layers(listed, where="layers")


def read(path: Path, split: str) -> tuple[Tensor, Tensor]:
    """Return images, scaled as the front scales them, ``[n, 3, 32, 32]``, and classes ``[n]``."""
    with open_dataset(str(path)) as data:
        part = data.split(split)
        images = torch.from_numpy(part.read(np.arange(len(part))))
        classes = torch.from_numpy(part.labels())
    mean, std = (torch.tensor(values).reshape(1, 3, 1, 1) for values in (MEAN, STD))
    return (images - mean) / std, classes


def moved(padded: Tensor, chosen: Tensor) -> Tensor:
    """Return the chosen images shifted by up to `SHIFT` pixels and half of them mirrored."""
    place = torch.arange(SIDE)
    top, left = torch.randint(2 * SHIFT + 1, (2, len(chosen)))
    columns = torch.where(torch.rand(len(chosen), 1) < 0.5, place, SIDE - 1 - place)
    rows, columns = top[:, None] + place, left[:, None] + columns
    images = padded[chosen[:, None, None], :, rows[:, :, None], columns[:, None, :]]
    return images.permute(0, 3, 1, 2)  # channels last in memory, faster on CPUs


def main() -> None:
    """Read, train, test, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    log = logging.getLogger("make_cifar10")
    start = time.monotonic()
    torch.set_num_threads(1)  # the same weights whatever the machine's core count
    torch.manual_seed(0)
    torch.use_deterministic_algorithms(mode=True)
    images, classes = read(given.data, "train")
    padded = nn.functional.pad(images, [SHIFT] * 4)

    network = layers()
    body = build_layers(network).train().requires_grad_(True)
    head = nn.Sequential(nn.ReLU(), nn.Linear(FEATURES, CLASSES))
    parameters = [*body.parameters(), *head.parameters()]
    optimizer = torch.optim.SGD(
        parameters, lr=PEAK_RATE, momentum=0.9, weight_decay=5e-4, nesterov=True
    )
    steps = len(images) // BATCH
    rates = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, PEAK_RATE, total_steps=given.epochs * steps
    )
    for epoch in range(given.epochs):
        right = 0
        for chosen in torch.randperm(len(images))[: steps * BATCH].reshape(steps, BATCH):
            scores = head(body(moved(padded, chosen)))
            loss = nn.functional.cross_entropy(scores, classes[chosen])
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            rates.step()
            right += int((scores.argmax(1) == classes[chosen]).sum())
        spent = time.monotonic() - start
        share = 100 * right / (steps * BATCH)
        log.info("epoch %d of %d: %.1f %%, %.0f s", epoch + 1, given.epochs, share, spent)

    body.eval()
    test, wanted = read(given.data, "test")
    with torch.no_grad():
        parts = [test[first : first + 250] for first in range(0, len(test), 250)]
        guess = torch.cat([head(body(part)).argmax(1) for part in parts])
    accuracy = 100 * float((guess == wanted).float().mean())
    log.info("%.1f %% of %d test images, %.0f s", accuracy, len(test), time.monotonic() - start)
    trained_on = f"CIFAR-10 train ({len(images):,} images), by make_cifar10.py, public"
    description = WeightsDescription(network, (3, SIDE, SIDE), MEAN, STD, trained_on)
    tensors = {k: v for k, v in body.state_dict().items() if not k.endswith("num_batches_tracked")}
    save_weights(given.out, description, tensors)


if __name__ == "__main__":
    main()
