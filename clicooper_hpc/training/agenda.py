"""What happens in a run, in which order: one pure function that every rank walks alike.

Owner and trainers never tell each other what comes next; they all compute it from public values.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from clicooper_hpc.training.data_order import Batch, EpochOrder, epoch_order, num_batches

__all__ = [
    "EVALUATED_BYTES",
    "Agenda",
    "Delivery",
    "Event",
    "Resend",
    "Save",
    "StageEnd",
    "StageStart",
    "TrainStep",
    "ValidationStep",
    "stage_bounds",
]


Split = Literal["train", "validation"]

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


@dataclass(frozen=True, slots=True)
class Save:
    """All ranks store what a later life of the run needs to go on after ``step`` steps."""

    step: int


@dataclass(frozen=True, slots=True)
class Resend:
    """The owner sends released rows again that trainer 1 lost with an earlier life of the run.

    ``ids`` int64 [rows]; ``step`` continues behind the last validation step, so that these messages
    are none of training.
    """

    step: int
    split: Split
    ids: NDArray[np.int64]


Event = TrainStep | ValidationStep | Delivery | StageStart | StageEnd | Save


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
    training stages the run is proved, 0 for none. The state is saved at the end of every stage
    (without stages: of every epoch), and after every ``save_every`` steps if that is not 0.
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
    save_every: int = 0

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

    @property
    def _validation_steps(self) -> int:
        return -(-self.validation_rows // self.batch_size)

    def _evaluates(self, epoch: int) -> bool:
        every = self.evaluate_every
        return epoch == self.epochs - 1 or bool(every and (epoch + 1) % every == 0)

    def _evaluations_before(self, epoch: int) -> int:
        """Count the epochs before ``epoch`` that end in an evaluation."""
        return sum(map(self._evaluates, range(epoch)))

    def validation_steps_before(self, after: int) -> int:
        """Count the validation steps that come before the `Save` after so many steps."""
        epoch = max(after - 1, 0) // self.steps_per_epoch
        return self._evaluations_before(epoch) * self._validation_steps

    def stage_of(self, step: int) -> int:
        """Return the stage that ``step`` belongs to."""
        return bisect_right(self.bounds, step) - 1

    def events(self, after: int = 0) -> Iterator[Event]:
        """Yield everything that happens, in order. A stage ends before what its last step brings.

        The last stage's proofs therefore speak of the very weights that are delivered at the end.

        Parameters
        ----------
        after
            Begin behind the `Save` after so many steps; 0: from the start.
        """
        bounds = self.bounds
        first = max(after - 1, 0) // self.steps_per_epoch
        step = first * self.steps_per_epoch
        stage = self.stage_of(step) if self.stages else 0
        evaluations = self._evaluations_before(first)
        validation_step = self.total_steps + self.validation_steps_before(after)
        for epoch in range(first, self.epochs):
            order = self._order(epoch)
            for batch in order.batches:
                if self.stages and step == bounds[stage] and step >= after:
                    yield StageStart(stage, step, bounds[stage + 1])
                if step >= after:
                    yield TrainStep(step, epoch, batch, from_owner=epoch == 0 or not self.cached)
                step += 1
                if step > after and self._saves(step, batch is order.batches[-1]):
                    yield Save(step)
                if self.stages and step == bounds[stage + 1]:
                    if step >= after:
                        yield StageEnd(stage, bounds[stage], step)
                    stage += 1
            if self._evaluates(epoch):
                for start in range(0, self.validation_rows, self.batch_size):
                    ids = np.arange(start, min(start + self.batch_size, self.validation_rows))
                    yield ValidationStep(
                        validation_step, epoch, ids, from_owner=not (evaluations and self.cached)
                    )
                    validation_step += 1
                evaluations += 1
                yield Delivery(step, epoch, final=epoch == self.epochs - 1)

    def _saves(self, step: int, ends_epoch: bool) -> bool:
        if self.save_every and step % self.save_every == 0:
            return True
        return step in self.bounds if self.stages else ends_epoch

    def sent_before(self, after: int) -> dict[Split, NDArray[np.int64]]:
        """Return the samples, each once, that left the owner in so many steps, by split."""
        train = np.empty(0, np.int64)
        if after:
            batches = self._order(0).batches[:after]
            train = np.unique(np.concatenate([batch.ids.reshape(-1) for batch in batches]))
        validated = self.validation_steps_before(after) > 0
        rows = self.validation_rows if validated else 0
        return {"train": train, "validation": np.arange(rows)} if rows else {"train": train}

    def refill(self, after: int, rows: int) -> Iterator[Resend]:
        """Yield what trainer 1 had kept of released rows after so many steps, ``rows`` at a time.

        Nothing where it keeps none: the owner then sends every batch anyway.
        """
        if not self.cached:
            return
        step = self.total_steps + self._evaluations_before(self.epochs) * self._validation_steps
        for split, ids in self.sent_before(after).items():
            for start in range(0, len(ids), rows):
                yield Resend(step, split, ids[start : start + rows])
                step += 1

    def _order(self, epoch: int) -> EpochOrder:
        return epoch_order(
            seed=self.seed,
            epoch=epoch,
            sub_labels=self.sub_labels,
            batch_size=self.batch_size,
            average_rows=self.average_rows,
        )
