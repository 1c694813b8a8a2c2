"""The small classifier a segment learns with when no gradient comes from its successor."""

from __future__ import annotations

from torch import nn

from clicooper_hpc.models.initial_weights import set_initial_weights
from clicooper_hpc.models.layers import SpatialMean, TokenMean

__all__ = ["local_head"]


def local_head(feature_shape: tuple[int, ...], outputs: int, seed: int) -> nn.Module:
    """Return a head from [rows, *feature_shape] to [rows, outputs] for one-way coupling.

    Vectors [d] go straight to a Linear; of tokens [tokens, dim] and of maps [channels, ...] the
    mean over tokens or positions is taken first. Same ``seed``, same bits; the global generators
    of torch are not touched.
    """
    if not feature_shape or min(feature_shape) < 1 or outputs < 1:
        raise ValueError(f"no head from {feature_shape} to {outputs} numbers")
    pool: nn.Module = nn.Identity()
    width = feature_shape[0]
    if len(feature_shape) == 2:
        pool, width = TokenMean(), feature_shape[1]
    elif len(feature_shape) > 2:
        pool = SpatialMean()
    # On the meta device no weights are drawn twice and no generator moves.
    head = nn.Sequential(pool, nn.Linear(width, outputs, device="meta")).to_empty(device="cpu")
    set_initial_weights(head, seed, gain=1.0, purpose="local head")
    return head
