"""One trainer's part of the network: a run of layers, their loss, their random numbers."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn import functional

from clicooper_hpc.models.layer_randomness import has_layer_randomness, seed_layer_randomness

__all__ = ["Segment", "segment_loss"]


def segment_loss(
    logits: Tensor, targets: Tensor, *, batch_rows: int, label_smoothing: float
) -> Tensor:
    """Cross-entropy of one micro-batch, as its share of the mean over the whole batch.

    ``logits`` [rows, sub-labels], ``targets`` int64 [rows]. Dividing by the batch's rows (not the
    micro-batch's) makes the sum over micro-batches the batch mean, also when the last one is short.
    """
    total = functional.cross_entropy(
        logits.float(), targets, reduction="sum", label_smoothing=label_smoothing
    )
    return total / batch_rows


class Segment(nn.Module):
    """Layers ``first_layer .. first_layer + len(layers)`` of the network.

    Random layers (dropout) draw from a generator seeded by (seed, step, micro-batch, layer number
    in the whole network), so their masks do not depend on where the network is cut.
    """

    def __init__(
        self,
        layers: nn.Sequential,
        *,
        first_layer: int,
        seed: int,
        device: torch.device,
        precision: str,
    ) -> None:
        super().__init__()
        self.layers = layers.to(device)
        self.first_layer = first_layer
        self.seed = seed
        self.device = device
        self.precision = precision
        # Found once: seeding costs time, and most layers draw nothing.
        self._random = [has_layer_randomness(layer) for layer in layers]

    def forward(self, rows: Tensor, *, step: int, micro_batch: int) -> Tensor:
        """Map ``rows`` through all layers; ``step`` and ``micro_batch`` key the random numbers."""
        with self.autocast():
            for index, layer in enumerate(self.layers):
                # Seeded layer by layer, not once a step: an audit replays all segments in one
                # process, and a replay of another cut must draw the same masks.
                if self.training and self._random[index]:
                    seed_layer_randomness(
                        self.seed, step, micro_batch, self.first_layer + index, self.device
                    )
                rows = layer(rows)
        return rows

    def autocast(self) -> AbstractContextManager[object]:
        """Return the mixed-precision context of this segment."""
        if self.precision == "bfloat16":
            return torch.autocast(self.device.type, dtype=torch.bfloat16)
        return nullcontext()
