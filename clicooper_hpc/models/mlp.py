"""Multi-layer perceptron on vectors, or on maps that it flattens first."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from torch import nn

from clicooper_hpc.errors import UsageError
from clicooper_hpc.models.model_options import (
    check_count_option,
    check_flag_option,
    check_fraction_option,
    parse_model_options,
)

__all__ = ["MLPOptions", "mlp"]


@dataclass(frozen=True, slots=True)
class MLPOptions:
    """Options of ``mlp``."""

    widths: tuple[int, ...] = (256, 256)
    """Units of each hidden layer; empty for a linear classifier."""

    stem: tuple[int, ...] = ()
    """Units of linear layers without activation before all others: they make a segment where
    one more activation on noised rows would cost accuracy."""

    dropout: float = 0.0
    """Probability of dropping a hidden unit."""

    norm: bool = True
    """LayerNorm before each activation."""

    def __post_init__(self) -> None:
        for name in ("widths", "stem"):
            widths = getattr(self, name)
            if not isinstance(widths, tuple):
                raise UsageError(
                    f"must be a list of whole numbers, not {widths!r}",
                    where=f"model.options.{name}",
                )
            for width in widths:
                check_count_option(name, width)
        check_fraction_option("dropout", self.dropout)
        check_flag_option("norm", self.norm)


def mlp(input_shape: tuple[int, ...], outputs: int, options: Mapping[str, object]) -> nn.Sequential:
    """[Flatten], [Linear], then Linear, [LayerNorm], ReLU, [Dropout] per width, then Linear.

    Raises ``UsageError`` for unknown options and bad values.
    """
    chosen = parse_model_options(MLPOptions, options, model="mlp")
    # Only for maps, so that on vectors no layer is spent that a cut could fall behind.
    layers: list[nn.Module] = [nn.Flatten()] if len(input_shape) > 1 else []
    inputs = math.prod(input_shape)
    for width in chosen.stem:
        layers.append(nn.Linear(inputs, width))
        inputs = width
    for width in chosen.widths:
        layers.append(nn.Linear(inputs, width))
        if chosen.norm:
            layers.append(nn.LayerNorm(width))
        layers.append(nn.ReLU())
        # No module where nothing is dropped: it would count as a layer that draws random numbers.
        if chosen.dropout:
            layers.append(nn.Dropout(chosen.dropout))
        inputs = width
    layers.append(nn.Linear(inputs, outputs))
    return nn.Sequential(*layers)
