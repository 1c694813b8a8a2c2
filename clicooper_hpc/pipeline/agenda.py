"""What happens in a run, in which order: one pure function that every rank walks alike.

Owner and trainers never tell each other what comes next; they all compute it from public values.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clicooper_hpc.pipeline.order import Batch, epoch_order, num_batches

__all__ = [
    "EVALUATED_BYTES",
    "Agenda",
    "Delivery",
    "Event",
    "StageEnd",
    "StageStart",
    "TrainStep",
    "ValidationStep",
    "stage_bounds",
]


#: Length of the owner's word to all that a delivery has been evaluated.
EVALUATED_BYTES = 16


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
class Delivery:
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


Event = TrainStep | ValidationStep | Delivery | StageStart | StageEnd


def stage_bounds(total_steps: int, stages: int) -> tuple[int, ...]:
    """Return where the stages begin, and the end: ``stages + 1`` steps from 0 to ``total_steps``.

    Lengths differ by at most one. More stages than steps make as many stages as steps.
    """
    stages = min(stages, total_steps)
    return tuple(total_steps * stage // stages for stage in range(stages + 1)) if stages else (0,)


@dataclass(frozen=True, slots=True)
class Agenda:
    """Public values that fix the course of a run.

    ``sub_labels`` int32 [training samples]; ``evaluate_every`` in epochs, 0 for only at the end;
    ``cached`` whether trainer 1 keeps released rows after their first pass; ``stages`` in how many
    training stages the run is proved, 0 for none.
    """

    seed: int
    epochs: int
    batch_size: int
    average_rows: int
    sub_labels: NDArray[np.int32]
    validation_rows: int
    evaluate_every: int
    cached: bool
    stages: int = 0

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps in an epoch."""
        return num_batches(
            sub_labels=self.sub_labels,
            batch_size=self.batch_size,
            average_rows=self.average_rows,
        )

    @property
    def total_steps(self) -> int:
        """Optimizer steps of the whole run."""
        return self.epochs * self.steps_per_epoch

    @property
    def bounds(self) -> tuple[int, ...]:
        """First step of every stage, and the number of steps; see `stage_bounds`."""
        return stage_bounds(self.total_steps, self.stages)

    def events(self) -> Iterator[Event]:
        """Yield everything that happens, in order. A stage ends before what its last step brings.

        The last stage's proofs therefore speak of the very weights that are delivered at the end.
        """
        bounds = self.bounds
        starts = {first: stage for stage, first in enumerate(bounds[:-1])}
        step = stage = 0
        validation_step = self.total_steps
        validated = False
        for epoch in range(self.epochs):
            order = epoch_order(
                seed=self.seed,
                epoch=epoch,
                sub_labels=self.sub_labels,
                batch_size=self.batch_size,
                average_rows=self.average_rows,
            )
            for batch in order.batches:
                if step in starts:
                    stage = starts[step]
                    yield StageStart(stage, step, bounds[stage + 1])
                yield TrainStep(step, epoch, batch, from_owner=epoch == 0 or not self.cached)
                step += 1
                if bounds[stage + 1 :] and step == bounds[stage + 1]:
                    yield StageEnd(stage, bounds[stage], step)
            final = epoch == self.epochs - 1
            if final or (self.evaluate_every and (epoch + 1) % self.evaluate_every == 0):
                for start in range(0, self.validation_rows, self.batch_size):
                    ids = np.arange(start, min(start + self.batch_size, self.validation_rows))
                    yield ValidationStep(
                        validation_step, epoch, ids, from_owner=not validated or not self.cached
                    )
                    validation_step += 1
                validated = True
                yield Delivery(step, epoch, final=final)
