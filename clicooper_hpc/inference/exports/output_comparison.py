"""Comparing what an exported model says with what the model says, on made-up rows."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from clicooper_hpc.errors import EnvironmentUnfitError
from clicooper_hpc.fronts.row_blocks import probe_rows
from clicooper_hpc.inference.load_model import LoadedModel

__all__ = ["compare_outputs"]

#: Of probabilities: kernels of another library, or for another number of rows, add in another
#: order.
_TOLERANCE = 1e-5


@torch.inference_mode()
def compare_outputs(
    model: LoadedModel, exported: Callable[[Tensor], Tensor], *, where: str
) -> float:
    """Return how far probabilities of ``exported`` are at most from the model's.

    On one row, on three, and on a block: as many as the front computes at once. Zero: all of them
    are equal to the bit.

    Raises
    ------
    EnvironmentUnfitError
        A probability is off by more than 1e-5.
    """
    classifier = model.classifier
    block = max(2, model.front.block_rows)
    most = 0.0
    for count in (1, 3, block):
        rows = _made_up_rows(model, count)
        mine, theirs = classifier(rows), exported(rows)
        same_kind = mine.shape == theirs.shape and mine.dtype == theirs.dtype
        off = float((mine - theirs).abs().max()) if same_kind else float("inf")
        # Not above: NaN is above nothing.
        if not off <= _TOLERANCE:
            raise EnvironmentUnfitError(
                f"read back, the exported model differs from the model by {off:.2g} on {count} "
                "made-up rows; nothing was kept",
                where=where,
                remedy="Use the versions of constraints.txt, or another format.",
            )
        most = max(most, off)
    return most


def _made_up_rows(model: LoadedModel, count: int) -> Tensor:
    """Return rows float32 [count, *input_shape] in the range of the training samples."""
    rows = torch.from_numpy(probe_rows(model.classifier.input_shape, count))
    lowest, highest = model.input.lowest, model.input.highest
    return rows * (highest - lowest) + lowest
