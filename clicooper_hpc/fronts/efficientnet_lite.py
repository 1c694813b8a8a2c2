"""EfficientNet-Lite0 as a layer list, its batch norms folded into the convolutions before them.

Tan and Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", ICML 2019
(arXiv 1905.11946); "Lite": no squeeze-and-excitation, ReLU6 for swish, stem and head of fixed
width. Names of tensors are those of the PyTorch port ``efficientnet_lite_pytorch``. The classifier
is left out: a front ends in the mean of the last map.

A batch norm with stored statistics is ``y = (x - mean) gamma / sqrt(var + eps) + beta``, a factor
and a summand a channel. Behind a convolution without bias they go into its weights and its bias,
computed in float64 and rounded once.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from clicooper_hpc.errors import DataError
from clicooper_hpc.fronts.layer_spec import Layer, parse_layers

__all__ = ["convert_efficientnet_lite0", "fold_batch_norm"]

#: Of each group: blocks, kernel, stride of the first block, expansion, channels in and out.
_GROUPS = (
    (1, 3, 1, 1, 32, 16),
    (2, 3, 2, 6, 16, 24),
    (2, 5, 2, 6, 24, 40),
    (3, 3, 2, 6, 40, 80),
    (3, 5, 1, 6, 80, 112),
    (4, 5, 2, 6, 112, 192),
    (1, 3, 1, 6, 192, 320),
)
_STEM, _HEAD = 32, 1280
_EPS = 1e-3

#: A layer as JSON has it, and its tensors.
_Made = tuple[dict[str, object], dict[str, Tensor]]
_RELU6: _Made = ({"type": "ReLU6"}, {})


def fold_batch_norm(
    weight: Tensor, norm: Mapping[str, Tensor], *, eps: float
) -> tuple[Tensor, Tensor]:
    """Return weight and bias, float32, of a convolution that does the batch norm behind it too.

    Parameters
    ----------
    weight
        float32 ``[out, in, kernel, kernel]`` of a convolution without bias.
    norm
        ``weight``, ``bias``, ``running_mean`` and ``running_var``, float32 ``[out]``.
    """
    wide = {name: tensor.to(torch.float64) for name, tensor in norm.items()}
    factor = wide["weight"] / torch.sqrt(wide["running_var"] + eps)
    folded = weight.to(torch.float64) * factor.reshape(-1, 1, 1, 1)
    bias = wide["bias"] - wide["running_mean"] * factor
    return folded.to(torch.float32), bias.to(torch.float32)


def convert_efficientnet_lite0(
    state: Mapping[str, Tensor], *, where: str
) -> tuple[tuple[Layer, ...], dict[str, Tensor]]:
    """Return layers and tensors, by the names of a weights file, of the port's ``state``.

    Raises
    ------
    DataError
        If a tensor is missing, or has another type or shape.
    """
    source = _State(state, where)
    made = [*source.convolution("_conv_stem", "_bn0", 3, _STEM, kernel=3, stride=2), _RELU6]
    number = 0
    for blocks, kernel, stride, expansion, inside, outside in _GROUPS:
        for first in [True] + [False] * (blocks - 1):
            channels = (inside if first else outside, outside)
            block = _block(source, number, channels, expansion, kernel, stride if first else 1)
            # The port adds the input only where it has the shape of the output.
            same = not first or (stride == 1 and inside == outside)
            made += [_residual(block)] if same else block
            number += 1
    made += [*source.convolution("_conv_head", "_bn1", _GROUPS[-1][-1], _HEAD), _RELU6]
    made += [({"type": "AdaptiveAvgPool2d", "output_size": 1}, {}), ({"type": "Flatten"}, {})]
    layers = parse_layers([layer for layer, _ in made], where=where)
    return layers, _numbered(made)


def _block(
    source: _State,
    number: int,
    channels: tuple[int, int],
    expansion: int,
    kernel: int,
    stride: int,
) -> list[_Made]:
    """Return an inverted residual block: wider, depthwise, narrow again."""
    name, wide = f"_blocks.{number}.", channels[0] * expansion
    made: list[_Made] = []
    if expansion != 1:
        made += [
            *source.convolution(f"{name}_expand_conv", f"{name}_bn0", channels[0], wide),
            _RELU6,
        ]
    made += source.convolution(
        f"{name}_depthwise_conv", f"{name}_bn1", 1, wide, kernel=kernel, stride=stride, groups=wide
    )
    made += [_RELU6]
    return made + source.convolution(f"{name}_project_conv", f"{name}_bn2", wide, channels[1])


def _residual(inner: list[_Made]) -> _Made:
    return {"type": "Residual", "layers": [layer for layer, _ in inner]}, _numbered(inner)


def _numbered(made: list[_Made]) -> dict[str, Tensor]:
    return {
        f"{index}.{name}": tensor
        for index, (_, tensors) in enumerate(made)
        for name, tensor in tensors.items()
    }


class _State:
    def __init__(self, state: Mapping[str, Tensor], where: str) -> None:
        self._state, self._where = state, where

    def _tensor(self, name: str, shape: tuple[int, ...]) -> Tensor:
        tensor = self._state.get(name)
        if (
            not isinstance(tensor, Tensor)
            or tensor.dtype != torch.float32
            or tuple(tensor.shape) != shape
        ):
            raise DataError(
                f"tensor {name!r}, float32 {list(shape)}, is missing", where=self._where
            )
        return tensor

    def convolution(
        self,
        name: str,
        norm: str,
        fan_in: int,
        out: int,
        *,
        kernel: int = 1,
        stride: int = 1,
        groups: int = 1,
    ) -> list[_Made]:
        """Return a convolution with its batch norm folded in, zeros put around the map before."""
        weight, bias = fold_batch_norm(
            self._tensor(f"{name}.weight", (out, fan_in, kernel, kernel)),
            {
                part: self._tensor(f"{norm}.{part}", (out,))
                for part in ("weight", "bias", "running_mean", "running_var")
            },
            eps=_EPS,
        )
        # "SAME" padding of TensorFlow on maps of even size: with stride 2 one zero more behind.
        zeros = kernel - stride
        before = zeros // 2
        even = zeros == 2 * before
        layer: dict[str, object] = {
            "type": "Conv2d",
            "in_channels": fan_in * groups,
            "out_channels": out,
            "kernel_size": kernel,
            "stride": stride,
            "padding": before if even else 0,
            "groups": groups,
        }
        pad: list[_Made] = [({"type": "ZeroPad2d", "before": before, "after": zeros - before}, {})]
        return [*([] if even else pad), (layer, {"weight": weight, "bias": bias})]
