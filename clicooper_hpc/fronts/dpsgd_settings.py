"""What a front is trained with and on: settings of DP-SGD, the owner's rows, a default network.

Apart from the training, which imports Opacus: seconds, and most runs train no front.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clicooper_hpc.errors import UsageError
from clicooper_hpc.fronts.layer_spec import Layer

__all__ = ["DpSgdSettings", "PrivateRows", "default_dpsgd_layers"]

_MIN_EPSILON = 0.05  # the PRV accountant resolves 0.01; below this it is mostly that error

#: Keys of the job file that have another name here.
_KEYS = {"batch_rows": "batch_size", "clip_norm": "clip"}


@dataclass(frozen=True, slots=True)
class DpSgdSettings:
    """Settings of the training; ``epsilon`` and ``delta`` are targets under add-remove.

    ``batch_rows`` is the expected size of a Poisson batch, ``clip_norm`` the L2 bound on one
    sample's gradient; ``layers`` replaces the default network (no BatchNorm).
    """

    epsilon: float
    delta: float
    epochs: int = 20
    batch_rows: int = 256
    clip_norm: float = 1.0
    learning_rate: float = 0.5
    layers: tuple[Layer, ...] | None = None

    def __post_init__(self) -> None:
        checks = {
            "epsilon": _MIN_EPSILON <= self.epsilon < math.inf,
            "delta": 0 < self.delta < 1,
            "epochs": self.epochs >= 1,
            "batch_rows": self.batch_rows >= 1,
            "clip_norm": 0 < self.clip_norm < math.inf,
            "learning_rate": 0 < self.learning_rate < math.inf,
        }
        for name, good in checks.items():
            if not good:
                hint = f" (at least {_MIN_EPSILON})" if name == "epsilon" else ""
                raise UsageError(
                    f"{getattr(self, name)!r} is out of range{hint}",
                    where=f"front.dp_sgd.{_KEYS.get(name, name)}",
                )
        if any(layer.type == "BatchNorm2d" for layer in self.layers or ()):
            raise UsageError(
                "BatchNorm mixes the samples of a batch, so one sample's gradient has no bound",
                where="front.dp_sgd.layers",
                remedy="Use GroupNorm",
            )


@dataclass(frozen=True, slots=True, eq=False)
class PrivateRows:
    """The owner's train split: rows float32 ``[n, *shape]``, labels int64 ``[n]`` in [0, classes).

    The number of classes is taken as public; it is not read off the labels.
    """

    rows: NDArray[np.float32]
    labels: NDArray[np.int64]
    classes: int

    def __repr__(self) -> str:
        return f"PrivateRows(rows={len(self.rows)})"


def default_dpsgd_layers(input_shape: tuple[int, ...], dim: int) -> tuple[Layer, ...]:
    """Return a small network for ``input_shape``: two or three convolutions, or two linear layers.

    Group normalisation keeps samples apart; the output has ``dim`` numbers.
    """
    if len(input_shape) != 3:
        size = math.prod(input_shape)
        first = Layer("Linear", (("in_features", size), ("out_features", 64), ("bias", True)))
        last = Layer("Linear", (("in_features", 64), ("out_features", dim), ("bias", True)))
        return (Layer("Flatten"), first, Layer("ReLU"), last)
    layers: list[Layer] = []
    channels = input_shape[0]
    widths = (16, 32, 64) if min(input_shape[1:]) >= 16 else (16, 32)
    for index, width in enumerate(widths):
        conv = {
            "in_channels": channels,
            "out_channels": width,
            "kernel_size": 3,
            "stride": 1 if index == 0 else 2,
            "padding": 1,
            "groups": 1,
            "bias": True,
        }
        # GroupNorm, since BatchNorm mixes samples, and one sample's gradient then has no bound.
        norm = (("num_groups", 4), ("num_channels", width), ("eps", 1e-5))
        layers += [Layer("Conv2d", tuple(conv.items())), Layer("GroupNorm", norm), Layer("ReLU")]
        channels = width
    layers += [Layer("AdaptiveAvgPool2d", (("output_size", 4),)), Layer("Flatten")]
    size = channels * 16
    layers.append(Layer("Linear", (("in_features", size), ("out_features", dim), ("bias", True))))
    return tuple(layers)
