"""ResNet-18 for 32x32 images and feature maps (He et al. 2016, GroupNorm for BatchNorm)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional

from clicooper_hpc.models.layer_shapes import require_map_shape
from clicooper_hpc.models.layers import SpatialMean, group_norm_layer
from clicooper_hpc.models.model_options import check_count_option, parse_model_options

__all__ = ["BasicBlock", "ResNet18Options", "resnet18"]

_STAGES = 4
_BLOCKS_PER_STAGE = 2


@dataclass(frozen=True, slots=True)
class ResNet18Options:
    """Options of ``resnet18``."""

    width: int = 64
    """Channels of the first stage; the four stages have 1, 2, 4 and 8 times as many."""

    def __post_init__(self) -> None:
        check_count_option("width", self.width)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut: [rows, inputs, H, W] to [rows, outputs, H/s, W/s].

    With stride s = 2 sides round up. The shortcut is the identity where shapes allow it, else a
    1x1 convolution with normalisation.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.norm1 = group_norm_layer(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.norm2 = group_norm_layer(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False), group_norm_layer(outputs)
            )

    def forward(self, maps: Tensor) -> Tensor:
        """Apply the layer to ``maps``."""
        inner = functional.relu(self.norm1(self.conv1(maps)))
        return functional.relu(self.norm2(self.conv2(inner)) + self.shortcut(maps))


def resnet18(
    input_shape: tuple[int, ...], outputs: int, options: Mapping[str, object]
) -> nn.Sequential:
    """Conv3x3, GroupNorm, ReLU, eight ``BasicBlock``, mean, Linear to ``outputs``.

    Raises ``UsageError`` for unknown options, bad values and an ``input_shape`` that is no map.
    """
    chosen = parse_model_options(ResNet18Options, options, model="resnet18")
    inputs, _, _ = require_map_shape(input_shape, model="resnet18")
    layers: list[nn.Module] = [
        # 3x3 without pool, as in the paper's CIFAR variant: a 7x7 stem would throw 32x32 images
        # away.
        nn.Conv2d(inputs, chosen.width, kernel_size=3, padding=1, bias=False),
        group_norm_layer(chosen.width),
        nn.ReLU(),
    ]
    channels = chosen.width
    for stage in range(_STAGES):
        for block in range(_BLOCKS_PER_STAGE):
            stride = 2 if stage > 0 and block == 0 else 1
            # A block is one layer: a cut inside would have to carry the shortcut across too.
            layers.append(BasicBlock(channels, chosen.width << stage, stride))
            channels = chosen.width << stage
    layers += [SpatialMean(), nn.Linear(channels, outputs)]
    return nn.Sequential(*layers)
