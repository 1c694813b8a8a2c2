"""A run again in one process: plain PyTorch on the very bytes that went over the wire."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn

from clicooper_hpc.models.build_model import build_model
from clicooper_hpc.models.layer_randomness import has_layer_randomness, seed_layer_randomness
from clicooper_hpc.models.local_head import local_head
from clicooper_hpc.models.module_options import ModuleOptions
from clicooper_hpc.runstore.reader import Run
from clicooper_hpc.training.batches import order_epoch_batches
from clicooper_hpc.training.learning_rate import LearningRateSchedule, learning_rate
from clicooper_hpc.transport.message_kind import Kind
from clicooper_hpc.transport.tap import read_tap

__all__ = ["Replay", "delivered", "replay", "wire_messages"]


@dataclass(frozen=True)
class Replay:
    """Losses per step of the last segment, and all final weights in order of layers."""

    losses: list[float]
    weights: list[Tensor]


def wire_messages(run: Run, rank: int, kind: Kind) -> Iterator[tuple[int, int, int, bytes, Any]]:
    """Yield (step, micro-batch, peer, payload, shape) of the recorded messages of one kind."""
    for header, payload, peer in read_tap(run.folder.path / "wire" / f"rank-{rank:03d}.wire"):
        if header.kind is kind:
            yield header.step, header.micro_batch, peer, payload, header.shape


def delivered(run: Run) -> list[Tensor]:
    """Return the delivered weights in the order of the network's layers."""
    found: list[Tensor] = []
    for path in sorted((run.folder.path / "delivery").glob("segment-*.safetensors")):
        state = load_file(path)
        keys = sorted(state, key=lambda key: (int(key.split(".")[0]), key.split(".")[1:]))
        found += [state[key] for key in keys]
    return found


def _sub_labels(run: Run, samples: int) -> NDArray[np.int32]:
    for header, payload, _ in read_tap(run.folder.path / "wire" / "rank-000.wire"):
        if header.kind is Kind.CONTROL and header.blob_bytes == 4 * samples:
            return np.frombuffer(payload, dtype=np.int32)
    raise AssertionError("the sub-labels were not found on the wire")


def replay(run: Run, *, samples: int, outputs: int, cuts: list[int] | None = None) -> Replay:
    """Train the run's network in this process.

    ``cuts`` None: one network, one backward through all of it. Else one-way: each part with its
    local head, nothing but detached activations between parts.
    """
    job = run.job
    torch.set_num_threads(job["training"]["threads"])  # how sums are split changes their last bit
    training, micro_batches = job["training"], job["pipeline"]["micro_batches"]
    labels = _sub_labels(run, samples)
    rows: dict[int, NDArray[np.float32]] = {}
    sent: dict[tuple[int, int], Tensor] = {}
    shape: tuple[int, ...] = ()
    for step, micro_batch, peer, payload, full in wire_messages(run, 0, Kind.RELEASE):
        assert peer == 1
        shape = tuple(full[1:])
        sent[step, micro_batch] = torch.from_numpy(
            np.frombuffer(payload, dtype=np.float32).reshape(full).copy()
        )
    model = build_model(
        job["model"]["name"],
        input_shape=shape,
        outputs=outputs,
        seed=training["seed"],
        options=job["model"]["options"],
        search_path=run.folder.path.parent,
        choices=ModuleOptions(job["model"]["batch_norm"], job["model"]["cuts"]),
    )
    parts = _parts(model, cuts, shape, outputs, training["seed"])
    optimizers = [
        torch.optim.SGD(
            [*part.parameters(), *head.parameters()],
            lr=1.0,
            momentum=training["momentum"],
            weight_decay=training["weight_decay"],
        )
        for part, head, _ in parts
    ]
    losses: list[float] = []
    step = 0
    orders = [
        order_epoch_batches(
            seed=training["seed"],
            epoch=epoch,
            sub_labels=labels,
            batch_size=training["batch_size"],
            average_rows=training["average_rows"],
        )
        for epoch in range(training["epochs"])
    ]
    total = sum(len(order.batches) for order in orders)
    for order in orders:
        for batch in order.batches:
            for optimizer in optimizers:
                optimizer.zero_grad()
            size = len(batch.sub_labels)
            chunk = -(-size // micro_batches)
            loss_sum: float | None = None
            for micro_batch, start in enumerate(range(0, size, chunk)):
                ids = batch.ids[start : start + chunk]
                if (step, micro_batch) in sent:
                    x = sent[step, micro_batch]
                    rows.update(zip(ids.reshape(-1).tolist(), x.numpy(), strict=True))
                else:
                    x = torch.from_numpy(np.stack([rows[i] for i in ids.reshape(-1).tolist()]))
                if ids.shape[1] > 1:
                    x = x.reshape(*ids.shape, *shape).mean(1)
                target = torch.from_numpy(batch.sub_labels[start : start + chunk].astype(np.int64))
                for part, head, first in parts:
                    y = _forward(part, x, training["seed"], step, micro_batch, first)
                    loss = (
                        nn.functional.cross_entropy(
                            head(y),
                            target,
                            reduction="sum",
                            label_smoothing=training["label_smoothing"],
                        )
                        / size
                    )
                    loss.backward()  # type: ignore[no-untyped-call]
                    x = y.detach()
                loss_sum = loss.item() if loss_sum is None else loss_sum + loss.item()
            rate = learning_rate(
                step,
                total_steps=total,
                schedule=LearningRateSchedule(
                    training["learning_rate"],
                    schedule=training["schedule"],
                    warmup_steps=training["warmup_steps"],
                    final_fraction=training["final_fraction"],
                ),
            )
            for optimizer in optimizers:
                _clip(optimizer, training["clip_norm"])
                optimizer.param_groups[0]["lr"] = rate
                optimizer.step()
            assert loss_sum is not None
            losses.append(loss_sum)
            step += 1
    state = [
        part.state_dict()[key]
        for part, _, _ in parts
        for key in sorted(
            part.state_dict(), key=lambda key: (int(key.split(".")[0]), key.split(".")[1:])
        )
    ]
    return Replay(losses, state)


def _parts(
    model: nn.Sequential, cuts: list[int] | None, shape: tuple[int, ...], outputs: int, seed: int
) -> list[tuple[nn.Sequential, nn.Module, int]]:
    if cuts is None:
        return [(model, nn.Identity(), 0)]
    bounds = [0, *cuts, len(model)]
    layers = list(model)
    parts: list[tuple[nn.Sequential, nn.Module, int]] = []
    x = torch.zeros(2, *shape)
    for first, stop in itertools.pairwise(bounds):
        part = nn.Sequential(*layers[first:stop])
        with torch.no_grad():
            x = part.eval()(x)
        part.train()
        last = stop == len(model)
        head = nn.Identity() if last else local_head(tuple(x.shape[1:]), outputs, seed + stop)
        parts.append((part, head, first))
    return parts


def _forward(
    part: nn.Sequential, x: Tensor, seed: int, step: int, micro_batch: int, first: int
) -> Tensor:
    for index, layer in enumerate(part):
        if has_layer_randomness(layer):
            seed_layer_randomness(seed, step, micro_batch, first + index, "cpu")
        x = layer(x)
    return x


def _clip(optimizer: torch.optim.Optimizer, limit: float | None) -> None:
    if limit is None:
        return
    gradients = [p.grad for p in optimizer.param_groups[0]["params"] if p.grad is not None]
    norm = sum(float(g.double().square().sum()) for g in gradients) ** 0.5
    if norm > limit:
        for gradient in gradients:
            gradient.mul_(limit / norm)
