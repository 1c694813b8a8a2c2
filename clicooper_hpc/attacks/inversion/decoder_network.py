"""The network that makes images of released rows.

A linear guess (`clicooper_hpc.attacks.inversion.linear_decoder`) carries what a linear map can; a
network adds the rest. Maps go through convolutions that double the side by sub-pixel shuffles (Shi
et al., "Real-Time Single Image and Video Super-Resolution", CVPR 2016; faster on a CPU than the
transposed convolutions of He et al., ACSAC 2019, and without their chequerboards); flat rows
first through a linear layer to a small map. The last layer starts at zero, so training starts at
the linear guess.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from clicooper_hpc.attacks.inversion.linear_decoder import LinearDecoder

__all__ = ["DecoderNetwork", "build_decoder_network"]

_WIDTH = 32
_FLAT_CHANNELS, _FLAT_HIDDEN = 64, 512


class DecoderNetwork(nn.Module):
    """Rows float32 [n, *row_shape] to images float32 [n, *image_shape], not cut to [0, 1].

    Parameters
    ----------
    row_shape
        ``(channels, height, width)`` of a map, or ``(d,)``.
    image_shape
        ``(channels, height, width)``.
    centre, scale
        float32 tensors that rows are standardised with, broadcast against a row.
    linear
        The linear guess to start from.
    """

    centre: Tensor
    scale: Tensor

    def __init__(
        self,
        row_shape: tuple[int, ...],
        image_shape: tuple[int, int, int],
        centre: Tensor,
        scale: Tensor,
        linear: LinearDecoder,
    ) -> None:
        super().__init__()
        self.image_shape = image_shape
        self.register_buffer("centre", centre)
        self.register_buffer("scale", scale)
        self.linear = linear
        channels, height, width = image_shape
        self.entry: nn.Module = nn.Identity()
        if len(row_shape) == 3:
            inner, side = row_shape[0], row_shape[1:]
        else:
            inner, side = _FLAT_CHANNELS, (max(1, height // 4), max(1, width // 4))
            self.entry = nn.Sequential(
                nn.Flatten(),
                nn.Linear(math.prod(row_shape), _FLAT_HIDDEN),
                nn.ReLU(),
                nn.Linear(_FLAT_HIDDEN, inner * side[0] * side[1]),
                nn.ReLU(),
                nn.Unflatten(1, (inner, *side)),
            )
        self.body = _upsampling_network(inner, side, (height, width))
        self.last = nn.Conv2d(_WIDTH, channels, 3, padding=1)
        # Zero: the untrained decoder is the linear guess, and training can only be kept if it is
        # better.
        nn.init.zeros_(self.last.weight)
        if self.last.bias is not None:
            nn.init.zeros_(self.last.bias)

    def forward(self, rows: Tensor) -> Tensor:
        """Return images for rows."""
        base = self.linear(rows).reshape(len(rows), *self.image_shape)
        maps = self.entry((rows - self.centre) / self.scale)
        maps = self.body(maps.contiguous(memory_format=torch.channels_last))
        # Sides that are no power of two times the map's.
        if maps.shape[2:] != base.shape[2:]:
            maps = functional.interpolate(maps, size=self.image_shape[1:], mode="bilinear")
        added: Tensor = self.last(maps)
        return base + added


def _upsampling_network(
    channels: int, side: tuple[int, ...], goal: tuple[int, int]
) -> nn.Sequential:
    """Return convolutions that bring maps to about the side of the image, ``_WIDTH`` channels."""
    # By the larger side: what is too large by the smaller is interpolated at the end.
    doublings = max(0, round(math.log2(max(goal) / max(side))))
    layers: list[nn.Module] = []
    if doublings == 0:
        layers += [nn.Conv2d(channels, _WIDTH, 3, padding=1), nn.ReLU()]
        layers += [nn.Conv2d(_WIDTH, _WIDTH, 3, padding=1), nn.ReLU()]
    for step in range(doublings):
        before = channels if step == 0 else _WIDTH
        layers += [nn.Conv2d(before, 4 * _WIDTH, 3, padding=1), nn.ReLU(), nn.PixelShuffle(2)]
    return nn.Sequential(*layers)


def build_decoder_network(
    clean: NDArray[np.float32],
    image_shape: tuple[int, int, int],
    sigma: float,
    linear: LinearDecoder,
    seed: int,
) -> DecoderNetwork:
    """Return an untrained decoder for rows like ``clean`` plus noise.

    Parameters
    ----------
    clean
        float32 [n, ...], clean rows: their spread (per channel of a map) and ``sigma`` give the
        scale rows are standardised with.
    image_shape
        Of one image.
    sigma
        Noise the decoder expects, 0 for a noise-unaware one.
    linear
        Where it starts.
    seed
        Of its starting weights.
    """
    # One scale for a channel of a map: its places have the same law.
    axes = (0, 2, 3) if clean.ndim == 4 else (0,)
    centre = clean.mean(axis=axes, keepdims=True)[0]
    # Noise included: that is what rows will look like.
    spread = np.sqrt(clean.var(axis=axes, keepdims=True)[0] + sigma**2)
    # Numbers that hardly vary would otherwise blow up whatever noise they carry.
    scale = np.maximum(spread, max(0.05 * float(clean.std()), 1e-6))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        decoder = DecoderNetwork(
            clean.shape[1:],
            image_shape,
            torch.from_numpy(centre.astype(np.float32)),
            torch.from_numpy(scale.astype(np.float32)),
            linear,
        )
    for parameter in decoder.parameters():
        if parameter.ndim == 4:  # twice as fast on a CPU
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    return decoder
