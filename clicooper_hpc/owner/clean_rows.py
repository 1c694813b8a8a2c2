"""Clean rows: samples behind the front, clipped as the segments' training rows were, not noised.

So the owner uses the delivered model on samples of its own, which have no reason to be released.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from clicooper_hpc.config.job import Job
from clicooper_hpc.errors import DataError
from clicooper_hpc.fronts.front import Front
from clicooper_hpc.fronts.front_layers import FrontLayers
from clicooper_hpc.owner.release_mechanism import mechanism_guarantee
from clicooper_hpc.privacy.sensitivity import Guarantee

__all__ = ["CleanRows", "RowClip", "job_clean_rows"]


class CleanRows(nn.Module):
    """Maps raw rows float32 [n, *input_shape] to clean rows float32 [n, *output_shape].

    Parameters
    ----------
    front
        Of the run.
    guarantee
        Whose clip bound holds for the rows; None where rows left as they were.

    Raises
    ------
    DataError
        Rows of another shape or dtype, or a number behind the front is not finite.
    """

    def __init__(self, front: Front, guarantee: Guarantee | None) -> None:
        super().__init__()
        self.input_shape = front.input_shape
        self.front = FrontLayers(front)
        self.clip = nn.Identity() if guarantee is None else RowClip(guarantee)

    def forward(self, raw: Tensor) -> Tensor:
        """Return the clean rows of ``raw``."""
        if tuple(raw.shape[1:]) != self.input_shape or raw.dtype != torch.float32:
            kind = str(raw.dtype).removeprefix("torch.")
            raise DataError(
                f"rows are {kind} {list(raw.shape[1:])}, the model takes float32 "
                f"{list(self.input_shape)}",
                where="input of the model",
            )
        clean: Tensor = self.clip(self.front(raw))
        return clean


class RowClip(nn.Module):
    """Clips rows float32 [n, ...] to the set that the sensitivity was computed for.

    What `clicooper_hpc.privacy.clipping.clip_rows` does, on tensors; sums are in float64, the
    result is rounded to float32.
    """

    def __init__(self, guarantee: Guarantee) -> None:
        super().__init__()
        self.bound = guarantee.clip
        self.by_element = guarantee.unit == "element"
        self.non_negative = guarantee.non_negative

    def forward(self, rows: Tensor) -> Tensor:
        """Return the nearest rows in the clip set."""
        exact = rows.flatten(1).double()
        if self.by_element:
            lowest = 0.0 if self.non_negative else -self.bound
            return exact.clamp(lowest, self.bound).float().reshape(rows.shape)
        if self.non_negative:
            exact = exact.clamp(min=0.0)
        # Scaled by a row's largest number first, so that no square overflows.
        scale = exact.abs().amax(dim=1, keepdim=True).clamp(min=self.bound)
        unit = exact / scale
        norms = unit.square().sum(dim=1, keepdim=True).sqrt()
        bound = self.bound / scale
        shorter = unit * (self.bound / torch.maximum(norms, bound))
        return torch.where(norms > bound, shorter, exact).float().reshape(rows.shape)


def job_clean_rows(job: Job, front: Front) -> CleanRows:
    """Return what turns samples of ``job`` into clean rows."""
    # Public rows that leave in place of samples' are neither clipped nor noised.
    if job.release.mode != "rows" or not job.privacy.enabled:
        return CleanRows(front, None)
    promise = mechanism_guarantee(job, front.output_shape, non_negative=front.non_negative)
    return CleanRows(front, promise)
