"""What a job may choose about a network that is not built in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["BatchNormChoice", "CutChoice", "ModuleOptions"]

#: ``model.batch_norm`` of a job.
BatchNormChoice = Literal["refuse", "group-norm"]

#: ``model.cuts`` of a job: behind one tensor, or behind any number of them.
CutChoice = Literal["single", "any"]


@dataclass(frozen=True, slots=True)
class ModuleOptions:
    """What becomes of batch normalisation, and where a traced network is cut."""

    batch_norm: BatchNormChoice = "refuse"
    cuts: CutChoice = "single"
