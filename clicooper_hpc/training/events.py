"""Events of a run: what owner and trainers do, as values. `RunPlan` puts them in order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from clicooper_hpc.training.batches import Batch

__all__ = [
    "DeliveryEvent",
    "Event",
    "Resend",
    "SaveEvent",
    "Split",
    "StageEnd",
    "StageStart",
    "TrainStep",
    "ValidationStep",
]

Split = Literal["train", "validation"]


@dataclass(frozen=True, slots=True)
class TrainStep:
    """One optimizer step on ``batch``. ``from_owner``: the owner sends the rows (else: cache)."""

    step: int
    epoch: int
    batch: Batch
    from_owner: bool


@dataclass(frozen=True, slots=True)
class ValidationStep:
    """Forward only, on released validation samples ``ids`` (int64 [rows]).

    ``step`` continues behind the last training step, so that no two messages share a number.
    """

    step: int
    epoch: int
    ids: NDArray[np.int64]
    from_owner: bool


@dataclass(frozen=True, slots=True)
class DeliveryEvent:
    """All trainers hand their segments to the owner, who evaluates the composed model."""

    step: int
    epoch: int
    final: bool


@dataclass(frozen=True, slots=True)
class StageStart:
    """Training stage ``stage`` begins: steps ``first`` to ``last`` (exclusive) follow."""

    stage: int
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class StageEnd:
    """All steps of a stage are done: every trainer proves its part."""

    stage: int
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class SaveEvent:
    """All ranks store what a restart after ``step`` steps needs."""

    step: int


@dataclass(frozen=True, slots=True)
class Resend:
    """The owner sends released rows again that trainer 1 lost when the run was stopped.

    ``ids`` int64 [rows]; ``step`` continues behind the last validation step, so that these messages
    are none of training.
    """

    step: int
    split: Split
    ids: NDArray[np.int64]


# Not `Resend`: it comes before the events of a restart, and once.
Event = TrainStep | ValidationStep | DeliveryEvent | StageStart | StageEnd | SaveEvent
