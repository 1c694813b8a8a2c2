"""Layers that the networks share, and the one rule for group normalisation."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["MaxPool2x2", "ResidualLayers", "SpatialMean", "TokenMean", "group_norm_layer"]

_MOST_GROUPS = 32
_LEAST_CHANNELS_PER_GROUP = 8


def group_norm_layer(channels: int) -> nn.GroupNorm:
    """Group normalisation whose statistics belong to one row alone (Wu and He 2018).

    Takes as many groups as divide ``channels``, at most 32 (the paper's number) and with at least
    8 channels each, so that a 1x1 map still has a spread to normalise by.
    """
    groups = next(
        number
        for number in range(_MOST_GROUPS, 0, -1)
        if channels % number == 0
        and (number == 1 or channels // number >= _LEAST_CHANNELS_PER_GROUP)
    )
    # Not BatchNorm: its statistics mix rows, so micro-batches would compute something else.
    return nn.GroupNorm(groups, channels)


class ResidualLayers(nn.Sequential):
    """Layers whose result is added to what they were given, of one shape (He et al. 2016)."""

    def forward(self, maps: Tensor) -> Tensor:
        """Apply the layer to ``maps``; ``ValueError`` if the layers change their shape."""
        inner = maps
        for layer in self:
            inner = layer(inner)
        # Addition would stretch a map of one place over all of them.
        if inner.shape != maps.shape:
            raise ValueError("residual layers change the shape of a row")
        return maps + inner


class SpatialMean(nn.Module):
    """Mean over all axes after the channels: [rows, channels, ...] to [rows, channels].

    A plain reduction: unlike adaptive pooling its gradient is deterministic on every device.
    """

    def forward(self, maps: Tensor) -> Tensor:
        """Apply the layer to ``maps``."""
        return maps.flatten(2).mean(2)


class TokenMean(nn.Module):
    """Mean over tokens: [rows, tokens, dim] to [rows, dim]."""

    def forward(self, tokens: Tensor) -> Tensor:
        """Apply the layer to ``tokens``."""
        return tokens.mean(1)


class MaxPool2x2(nn.Module):
    """Maximum of each 2x2 square: [rows, channels, H, W] to [rows, channels, H // 2, W // 2].

    An odd last line is left out. Written with elementwise maxima because the gradient kernel of
    ``nn.MaxPool2d`` adds atomically on some devices, and an audit replays training bit for bit.
    """

    def forward(self, maps: Tensor) -> Tensor:
        """Apply the layer to ``maps``."""
        height, width = maps.shape[-2] // 2 * 2, maps.shape[-1] // 2 * 2
        maps = maps[..., :height, :width]
        tall = torch.maximum(maps[..., 0::2, :], maps[..., 1::2, :])
        return torch.maximum(tall[..., 0::2], tall[..., 1::2])
