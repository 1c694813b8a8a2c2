"""Plain convolutional network for small images and feature maps (Simonyan and Zisserman 2015)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import nn

from clicooper_hpc.errors import UsageError
from clicooper_hpc.models.layer_shapes import require_map_shape
from clicooper_hpc.models.layers import MaxPool2x2, SpatialMean, group_norm_layer
from clicooper_hpc.models.model_options import (
    check_count_option,
    check_fraction_option,
    parse_model_options,
)

__all__ = ["VGGOptions", "vgg"]

_POOL = "M"
_CONVOLUTIONS_PER_STAGE = 2


@dataclass(frozen=True, slots=True)
class VGGOptions:
    """Options of ``vgg``."""

    channels: tuple[int | str, ...] = (64, 128, 256)
    """Either a layout of convolutions and pools, as in ``[64, "M", 128, 128, "M"]``, or, without
    any "M", the width of each stage: two convolutions, then a pool as long as both sides of the
    map are at least 2."""

    dropout: float = 0.0
    """Probability of dropping an input of the classifier."""

    def __post_init__(self) -> None:
        where = "model.options.channels"
        if not isinstance(self.channels, tuple) or not self.channels:
            raise UsageError(
                f"must be a list of widths and {_POOL!r}, not {self.channels!r}", where=where
            )
        for entry in self.channels:
            if isinstance(entry, str) and entry != _POOL:
                raise UsageError(f"{entry!r} is neither a width nor {_POOL!r}", where=where)
            if entry != _POOL:
                check_count_option("channels", entry)
        if all(entry == _POOL for entry in self.channels):
            raise UsageError("holds pools but no convolution", where=where)
        check_fraction_option("dropout", self.dropout)


def _layout(channels: tuple[int | str, ...], height: int, width: int) -> list[int | None]:
    """Return the convolutions' widths in order, ``None`` for a pool; refuse a pool too many."""
    layout: list[int | None] = []
    side = min(height, width)
    if _POOL not in channels:
        for entry in channels:
            layout += [int(entry)] * _CONVOLUTIONS_PER_STAGE
            if side >= 2:
                layout.append(None)
                side //= 2
        return layout
    for number, entry in enumerate(channels):
        if entry != _POOL:
            layout.append(int(entry))
            continue
        if side < 2:
            raise UsageError(
                f"the pool at position {number} meets a map whose shorter side is 1 "
                f"(the release has maps of {height} x {width})",
                where="model.options.channels",
                remedy=f"Take out a {_POOL!r}.",
            )
        layout.append(None)
        side //= 2
    return layout


def vgg(input_shape: tuple[int, ...], outputs: int, options: Mapping[str, object]) -> nn.Sequential:
    """Conv3x3, GroupNorm, ReLU per width and MaxPool2x2 per pool, then mean, [Dropout], Linear.

    Raises ``UsageError`` for unknown options, bad values and an ``input_shape`` that is no map.
    """
    chosen = parse_model_options(VGGOptions, options, model="vgg")
    inputs, height, width = require_map_shape(input_shape, model="vgg")
    layers: list[nn.Module] = []
    for entry in _layout(chosen.channels, height, width):
        if entry is None:
            layers.append(MaxPool2x2())
            continue
        # No bias: the normalisation behind it has one.
        layers.append(nn.Conv2d(inputs, entry, kernel_size=3, padding=1, bias=False))
        layers += [group_norm_layer(entry), nn.ReLU()]
        inputs = entry
    # A mean, not a flattening: the classifier's size does not depend on the map's.
    layers.append(SpatialMean())
    if chosen.dropout:
        layers.append(nn.Dropout(chosen.dropout))
    layers.append(nn.Linear(inputs, outputs))
    return nn.Sequential(*layers)
