"""Pooling of read-outs: what a front takes from inside its network, as a vector.

A network trained for other classes says more in its last maps than in the few numbers at its end.
A read-out names the output behind some layers, and how that map ``[C, H, W]`` becomes a vector:

=========  ======================================================  ===========
pool       vector                                                  length
=========  ======================================================  ===========
``mean``   mean over all places                                    C
``2x2``    means over the quarters of the map; also 3x3 to 8x8     4 C
``rms``    root of the mean square over all places                 C
``all``    every number                                            C H W
=========  ======================================================  ===========
"""

from __future__ import annotations

import math

from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from clicooper_hpc.config.read_out import ReadOut
from clicooper_hpc.errors import UsageError

__all__ = ["pool_read_out", "pooled_size", "pooling_keeps_sign"]


def pooled_size(read_out: ReadOut, shape: tuple[int, ...]) -> int:
    """Return the length of the vector for an output of ``shape``, of one row.

    Raises
    ------
    UsageError
        If the output there is no map ``[C, H, W]`` that can be pooled so.
    """
    if read_out.pool == "all":
        return math.prod(shape)
    side = _side(read_out)
    if len(shape) != 3 or min(shape[1:]) < side:
        raise UsageError(
            f"{read_out} cannot pool rows of shape {list(shape)}",
            where="front.read_outs",
            remedy='Use "all" for a vector, and no more parts than the map has places',
        )
    return shape[0] * side * side


def pool_read_out(read_out: ReadOut, output: Tensor) -> Tensor:
    """Return float32 [n, `pooled_size`] of an ``output`` float32 [n, *shape]."""
    if read_out.pool == "all":
        return output.flatten(1)
    if read_out.pool == "rms":
        return output.square().mean(dim=(2, 3)).sqrt()
    return adaptive_avg_pool2d(output, _side(read_out)).flatten(1)


def pooling_keeps_sign(read_out: ReadOut, non_negative: bool) -> bool:
    """Whether every number is provably >= 0, given whether the output's are."""
    return non_negative or read_out.pool == "rms"


def _side(read_out: ReadOut) -> int:
    return 1 if read_out.pool in {"mean", "rms"} else int(read_out.pool[0])
