"""First layer of networks on images: scaled numbers and, in training, random shifts and mirrors."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from clicooper_hpc.errors import UsageError

__all__ = ["ImageInput"]


class ImageInput(nn.Module):
    """Maps [rows, channels, H, W]: (x - mean) / std, and in training another view of every image.

    The views are part of the network, not of the data, so that every row is sent once and an
    auditor who replays a step sees the same ones: the numbers drawn come from torch's generator,
    which is keyed by step, micro-batch and layer.

    Parameters
    ----------
    channels
        Of a map.
    mean, std
        One number for all channels, or one per channel; ``std`` above 0.
    shift
        Moves by up to so many pixels each way, uniformly; places left free are 0 (after scaling).
    mirror
        Turn left and right with probability 1/2.

    Raises
    ------
    UsageError
        For a ``mean`` or ``std`` of another length, or that is no number.
    """

    def __init__(
        self,
        channels: int,
        mean: Sequence[float],
        std: Sequence[float],
        *,
        shift: int = 0,
        mirror: bool = False,
    ) -> None:
        super().__init__()
        self.mean = _per_channel("mean", mean, channels, lowest=-math.inf)
        self.std = _per_channel("std", std, channels, lowest=0.0)
        self.shift = shift
        self.mirror = mirror

    @property
    def draws(self) -> bool:
        """Whether training draws random numbers."""
        return self.shift > 0 or self.mirror

    def forward(self, maps: Tensor) -> Tensor:
        """Apply the layer to ``maps``."""
        # Made anew each time: as buffers they would be part of the network's weights.
        mean, std = (
            torch.tensor(values, dtype=maps.dtype, device=maps.device).reshape(1, -1, 1, 1)
            for values in (self.mean, self.std)
        )
        maps = (maps - mean) / std
        return self._views(maps) if self.training and self.draws else maps

    def _views(self, maps: Tensor) -> Tensor:
        rows, _, height, width = maps.shape
        down, right = torch.randint(2 * self.shift + 1, (2, rows, 1), device=maps.device)
        turned = torch.rand(rows, 1, device=maps.device) < (0.5 if self.mirror else 0.0)
        across = torch.arange(width, device=maps.device)
        columns = right + torch.where(turned, width - 1 - across, across)
        lines = down + torch.arange(height, device=maps.device)
        padded = nn.functional.pad(maps, [self.shift] * 4)
        row = torch.arange(rows, device=maps.device)[:, None, None]
        # Indices of axes 0, 2 and 3 around a whole axis 1: torch puts the channels last.
        views = padded[row, :, lines[:, :, None], columns[:, None, :]]
        return views.permute(0, 3, 1, 2).contiguous()


def _per_channel(
    name: str, given: Sequence[float], channels: int, *, lowest: float
) -> tuple[float, ...]:
    where = f"model.options.{name}"
    numbers = given if isinstance(given, tuple | list) else ()
    if len(numbers) not in {1, channels}:
        raise UsageError(
            f"must be a list of one number or of {channels}, one per channel, not {given!r}",
            where=where,
        )
    for value in numbers:
        # Python counts true and false as integers; in a job file they are a mistake.
        good = isinstance(value, int | float) and not isinstance(value, bool)
        if not good or not lowest < value < math.inf:
            raise UsageError(f"holds {value!r}, which is no number above {lowest}", where=where)
    return tuple(float(value) for value in numbers)
