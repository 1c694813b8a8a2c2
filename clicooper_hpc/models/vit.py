"""Small vision transformer on images and feature maps (Dosovitskiy et al. 2021, pre-norm)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from clicooper_hpc.errors import UsageError
from clicooper_hpc.models.layer_shapes import require_map_shape
from clicooper_hpc.models.layers import TokenMean
from clicooper_hpc.models.model_options import (
    check_count_option,
    check_fraction_option,
    check_positive_option,
    parse_model_options,
)

__all__ = ["EncoderBlock", "PatchEmbedding", "SelfAttention", "ViTOptions", "vit"]


@dataclass(frozen=True, slots=True)
class ViTOptions:
    """Options of ``vit``."""

    patch: int = 4
    """Side of the squares that become tokens; divides height and width of the map."""

    dim: int = 192
    """Width of a token."""

    depth: int = 6
    """Number of encoder blocks."""

    heads: int = 3
    """Attention heads; divides ``dim``."""

    mlp_ratio: float = 4.0
    """Hidden units of a block's perceptron, as a multiple of ``dim``."""

    dropout: float = 0.0
    """Probability of dropping an entry of the embedding and of each residual branch."""

    def __post_init__(self) -> None:
        for name in ("patch", "dim", "depth", "heads"):
            check_count_option(name, getattr(self, name))
        check_positive_option("mlp_ratio", self.mlp_ratio)
        check_fraction_option("dropout", self.dropout)
        if self.dim % self.heads:
            raise UsageError(
                f"{self.heads} heads cannot share {self.dim} numbers evenly",
                where="model.options.heads",
                remedy="Choose a divisor of model.options.dim.",
            )


def _dropout(probability: float) -> nn.Module:
    # Without dropout there is no module either: the layer then counts as free of randomness.
    return nn.Dropout(probability) if probability else nn.Identity()


class PatchEmbedding(nn.Module):
    """Squares of a map become tokens: [rows, C, H, W] to [rows, H W / patch^2, dim]."""

    def __init__(self, channels: int, tokens: int, patch: int, dim: int, dropout: float) -> None:
        super().__init__()
        self.project = nn.Conv2d(channels, dim, kernel_size=patch, stride=patch)
        # Only its shape matters here: initial weights are set by name afterwards.
        self.position = nn.Parameter(torch.zeros(tokens, dim))
        self.dropout = _dropout(dropout)

    def forward(self, maps: Tensor) -> Tensor:
        """Apply the layer to ``maps``."""
        # Contiguous because it may be sent on as it is, when the cut falls here.
        tokens = self.project(maps).flatten(2).transpose(1, 2).contiguous()
        embedded: Tensor = self.dropout(tokens + self.position)
        return embedded


class SelfAttention(nn.Module):
    """Multi-head self-attention on [rows, tokens, dim].

    Spelt out in matrix products, not with a fused kernel: these have a deterministic gradient on
    every device and their operations are counted.
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query_key_value = nn.Linear(dim, 3 * dim)
        self.merge = nn.Linear(dim, dim)

    def forward(self, tokens: Tensor) -> Tensor:
        """Apply the layer to ``tokens``."""
        rows, count, dim = tokens.shape
        split = self.query_key_value(tokens).reshape(rows, count, 3, self.heads, dim // self.heads)
        query, key, value = split.permute(2, 0, 3, 1, 4).unbind(0)
        scale = (dim // self.heads) ** -0.5
        weights = torch.softmax((query * scale) @ key.transpose(-2, -1), dim=-1)
        merged: Tensor = self.merge((weights @ value).transpose(1, 2).reshape(rows, count, dim))
        return merged


class EncoderBlock(nn.Module):
    """Attention and perceptron, each normalised first and added on: [rows, tokens, dim] kept."""

    def __init__(self, dim: int, heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attention = SelfAttention(dim, heads)
        self.norm2 = nn.LayerNorm(dim)
        self.perceptron = nn.Sequential(nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, dim))
        self.dropout = _dropout(dropout)

    def forward(self, tokens: Tensor) -> Tensor:
        """Apply the layer to ``tokens``."""
        tokens = tokens + self.dropout(self.attention(self.norm1(tokens)))
        added: Tensor = tokens + self.dropout(self.perceptron(self.norm2(tokens)))
        return added


def vit(input_shape: tuple[int, ...], outputs: int, options: Mapping[str, object]) -> nn.Sequential:
    """``PatchEmbedding``, ``EncoderBlock`` per depth, LayerNorm, mean of tokens, Linear.

    Raises ``UsageError`` for unknown options, bad values, an ``input_shape`` that is no map, and
    a patch that does not divide it.
    """
    chosen = parse_model_options(ViTOptions, options, model="vit")
    channels, height, width = require_map_shape(input_shape, model="vit")
    if height % chosen.patch or width % chosen.patch:
        raise UsageError(
            f"patches of {chosen.patch} x {chosen.patch} do not tile maps of {height} x {width}",
            where="model.options.patch",
            remedy="Choose a common divisor of height and width.",
        )
    tokens = (height // chosen.patch) * (width // chosen.patch)
    hidden = max(1, round(chosen.dim * chosen.mlp_ratio))
    return nn.Sequential(
        PatchEmbedding(channels, tokens, chosen.patch, chosen.dim, chosen.dropout),
        *(
            EncoderBlock(chosen.dim, chosen.heads, hidden, chosen.dropout)
            for _ in range(chosen.depth)
        ),
        nn.LayerNorm(chosen.dim),
        TokenMean(),
        nn.Linear(chosen.dim, outputs),
    )
