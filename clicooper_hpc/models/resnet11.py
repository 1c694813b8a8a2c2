"""ResNet-11 for 32x32 images: a short residual network that processors train in an hour or two.

Ten 3x3 convolutions and a linear layer; residual blocks as by He et al. 2016, GroupNorm for
BatchNorm. Every layer but the first is one that a front can be made of as well
(`clicooper_hpc.fronts.layer_spec`), so that what trainers made of public images can be the public
front of another run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import nn

from clicooper_hpc.errors import UsageError
from clicooper_hpc.models.image_input import ImageInput
from clicooper_hpc.models.layer_shapes import require_map_shape
from clicooper_hpc.models.layers import ResidualLayers, SpatialMean, group_norm_layer
from clicooper_hpc.models.model_options import (
    check_count_option,
    check_flag_option,
    parse_model_options,
)

__all__ = ["ResNet11Options", "resnet11"]

_STAGES = 3


@dataclass(frozen=True, slots=True)
class ResNet11Options:
    """Options of ``resnet11``."""

    width: int = 48
    """Channels of the first convolution; the three stages behind it have 2, 4 and 8 times as
    many."""

    mean: tuple[float, ...] = (0.0,)
    """Taken from the numbers of a row before the first convolution: one, or one per channel."""

    std: tuple[float, ...] = (1.0,)
    """What they are divided by then."""

    shift: int = 0
    """In training every image is moved by up to so many pixels each way, at random."""

    mirror: bool = False
    """In training every other image is mirrored, at random."""

    def __post_init__(self) -> None:
        check_count_option("width", self.width)
        check_count_option("shift", self.shift, least=0)
        check_flag_option("mirror", self.mirror)


def resnet11(
    input_shape: tuple[int, ...], outputs: int, options: Mapping[str, object]
) -> nn.Sequential:
    """`ImageInput`; Conv3x3, GroupNorm, ReLU; three stages of the same and a block; mean, Linear.

    Raises ``UsageError`` for unknown options, bad values and an ``input_shape`` that is no map.
    """
    chosen = parse_model_options(ResNet11Options, options, model="resnet11")
    channels, height, width = require_map_shape(input_shape, model="resnet11")
    if min(height, width) <= chosen.shift:
        raise UsageError(
            f"a shift of {chosen.shift} moves maps of {height} x {width} out of sight",
            where="model.options.shift",
        )
    layers: list[nn.Module] = [
        ImageInput(channels, chosen.mean, chosen.std, shift=chosen.shift, mirror=chosen.mirror),
        *_convolution(channels, chosen.width),
    ]
    for stage in range(_STAGES):
        narrow, wide = chosen.width << stage, chosen.width << (stage + 1)
        # A block is one layer: a cut inside would have to carry its shortcut across too.
        layers += [
            *_convolution(narrow, wide, stride=2),
            ResidualLayers(*_convolution(wide, wide), *_convolution(wide, wide)),
        ]
    layers += [SpatialMean(), nn.Linear(chosen.width << _STAGES, outputs)]
    return nn.Sequential(*layers)


def _convolution(inputs: int, outputs: int, stride: int = 1) -> list[nn.Module]:
    # No bias: the normalisation behind it has one.
    return [
        nn.Conv2d(inputs, outputs, kernel_size=3, stride=stride, padding=1, bias=False),
        group_norm_layer(outputs),
        nn.ReLU(),
    ]
