"""Where in a segment numbers first stopped being finite: looked for once they have."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from clicooper_hpc.transport.finite_payload import describe_non_finite

__all__ = ["describe_divergence"]


@torch.no_grad()
def describe_divergence(layers: nn.Sequential, first_layer: int, rows: Tensor) -> str:
    """Return which layer first gives NaN or infinity for ``rows`` [n, ...], and from what.

    ``first_layer`` is the number of the first one in the whole network. Random layers draw anew.
    """
    entered = f"what came in was at most {float(rows.abs().max()):.1e}"
    for number, layer in enumerate(layers, start=first_layer):
        for name, value in layer.state_dict().items():
            if describe_non_finite(value) is not None:
                return f"first in the weights of layer {number} ({name}); {entered}"
        largest = float(rows.abs().max())
        rows = layer(rows)
        if describe_non_finite(rows) is not None:
            return (
                f"first behind layer {number} ({type(layer).__name__}), from numbers of at most "
                f"{largest:.1e}; {entered}"
            )
    return f"first behind all layers; {entered}"
