"""The plan of a run: every step, in order, as a pure function of public values.

Owner and trainers never tell each other what comes next: each computes it from the job, the
contract and the sub-labels. A restart therefore needs to know nothing but a number of steps.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from clicooper_hpc.digests import Digest, digest_chunks
from clicooper_hpc.pipeline.schedule import Coupling, Op, make_schedule
from clicooper_hpc.pipeline.simulator import simulate_required_slots
from clicooper_hpc.training.batches import (
    EpochOrder,
    count_batches,
    order_epoch_batches,
    split_batch_rows,
)
from clicooper_hpc.training.events import (
    DeliveryEvent,
    Event,
    Resend,
    SaveEvent,
    Split,
    StageEnd,
    StageStart,
    TrainStep,
    ValidationStep,
)
from clicooper_hpc.training.learning_rate import LearningRateSchedule, learning_rate

__all__ = ["DATA_ORDER_TAG", "RunPlan", "StageOrder", "plan_stage_bounds", "plan_stage_orders"]

DATA_ORDER_TAG = "clicooper/v1/stage-order"


def plan_stage_bounds(total_steps: int, stages: int) -> tuple[int, ...]:
    """Return where the stages begin, and the end: ``stages + 1`` steps from 0 to ``total_steps``.

    Lengths differ by at most one. More stages than steps make as many stages as steps.
    """
    stages = min(stages, total_steps)
    return tuple(total_steps * stage // stages for stage in range(stages + 1)) if stages else (0,)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPlan:
    """Public values that fix what happens in a run, and what follows from them.

    Attributes
    ----------
    seed, epochs, batch_size, average_rows
        As in the job; see `clicooper_hpc.training.batches`.
    sub_labels
        int32 [training samples].
    validation_rows
        Released validation samples.
    evaluate_every
        In epochs; 0 for only at the end.
    cached
        Whether trainer 1 keeps released rows after their first pass.
    segments, micro_batches, schedule, coupling
        The pipeline; see `clicooper_hpc.pipeline.schedule`.
    rates
        Learning rate of every step.
    stages
        Training stages the run is proved in; 0 for none.
    save_every
        Steps between two checkpoints, besides those at the end of every stage (without stages: of
        every epoch); 0 for no others.
    steps_per_epoch, total_steps
        Optimizer steps of an epoch and of the whole run; counted once, for that looks at every
        sub-label.
    """

    seed: int
    epochs: int
    batch_size: int
    average_rows: int
    sub_labels: NDArray[np.int32]
    validation_rows: int
    evaluate_every: int
    cached: bool
    segments: int
    micro_batches: int
    schedule: str
    coupling: Coupling
    rates: LearningRateSchedule
    stages: int = 0
    save_every: int = 0
    steps_per_epoch: int = field(init=False)
    total_steps: int = field(init=False)

    def __post_init__(self) -> None:
        """Count the steps."""
        steps = count_batches(
            sub_labels=self.sub_labels,
            batch_size=self.batch_size,
            average_rows=self.average_rows,
        )
        # The dataclass is frozen, so its own counts cannot be assigned in the usual way.
        object.__setattr__(self, "steps_per_epoch", steps)
        object.__setattr__(self, "total_steps", self.epochs * steps)

    @property
    def stage_bounds(self) -> tuple[int, ...]:
        """First step of every stage, and the number of steps; see `plan_stage_bounds`."""
        return plan_stage_bounds(self.total_steps, self.stages)

    def planned_stage(self, step: int) -> int:
        """Return the stage that ``step`` belongs to."""
        return bisect_right(self.stage_bounds, step) - 1

    @property
    def schedule_name(self) -> str:
        """Name of the schedule that runs: one-way coupling has its own."""
        # Where no gradient comes back there is nothing to interleave.
        return "one-way" if self.coupling == "one-way" else self.schedule

    @property
    def largest_micro_batch(self) -> int:
        """Rows of the largest micro-batch."""
        return len(split_batch_rows(self.batch_size, self.micro_batches)[0])

    def planned_slots(self) -> int:
        """Receive slots per channel: what cannot deadlock, and one for overlap."""
        schedule = make_schedule(self.schedule_name, self.segments, self.micro_batches)
        return simulate_required_slots(schedule, self.coupling) + 1

    def planned_lane(self, segment: int, micro_batches: int) -> tuple[Op, ...]:
        """Operations of ``segment`` (0-based) in a step of ``micro_batches`` micro-batches."""
        return make_schedule(self.schedule_name, self.segments, micro_batches)[segment]

    def planned_micro_batches(self, rows: int) -> tuple[range, ...]:
        """Micro-batches of a batch of ``rows`` rows."""
        return split_batch_rows(rows, self.micro_batches)

    def planned_rate(self, step: int) -> float:
        """Learning rate of one step."""
        return learning_rate(step, total_steps=self.total_steps, schedule=self.rates)

    def planned_events(self, after: int = 0) -> Iterator[Event]:
        """Yield everything that happens, in order. A stage ends before what its last step brings.

        The last stage's proofs therefore speak of the very weights that are delivered at the end.

        Parameters
        ----------
        after
            Begin behind the `SaveEvent` after so many steps; 0: from the start.
        """
        bounds = self.stage_bounds
        # A checkpoint at the end of an epoch lies before its evaluation, which is still to come:
        # hence the epoch of the last step done, not of the next one.
        first = max(after - 1, 0) // self.steps_per_epoch
        step = first * self.steps_per_epoch
        stage = self.planned_stage(step) if self.stages else 0
        evaluations = self._planned_evaluations(first)
        validation_step = self.total_steps + self.planned_validation_steps(after)
        for epoch in range(first, self.epochs):
            order = self._planned_order(epoch)
            for batch in order.batches:
                if self.stages and step == bounds[stage] and step >= after:
                    yield StageStart(stage, step, bounds[stage + 1])
                if step >= after:
                    yield TrainStep(step, epoch, batch, from_owner=epoch == 0 or not self.cached)
                step += 1
                # Saved before it is proved: the weights a proof speaks of then exist on disk,
                # whatever is killed when.
                if step > after and self._plans_save(step, batch is order.batches[-1]):
                    yield SaveEvent(step)
                if self.stages and step == bounds[stage + 1]:
                    if step >= after:
                        yield StageEnd(stage, bounds[stage], step)
                    stage += 1
            if self._plans_evaluation(epoch):
                for start in range(0, self.validation_rows, self.batch_size):
                    ids = np.arange(start, min(start + self.batch_size, self.validation_rows))
                    # From the owner the first time only, if trainer 1 keeps rows: no second copy on
                    # the wire.
                    yield ValidationStep(
                        validation_step, epoch, ids, from_owner=not (evaluations and self.cached)
                    )
                    validation_step += 1
                evaluations += 1
                yield DeliveryEvent(step, epoch, final=epoch == self.epochs - 1)

    def planned_resends(self, after: int) -> Iterator[Resend]:
        """Yield what trainer 1 had kept of released rows after so many steps.

        In parts that a channel takes. Nothing where it keeps none: every batch is then sent anyway.
        """
        if not self.cached:
            return
        rows = self.largest_micro_batch  # a receive slot holds no more
        step = self.total_steps + self._planned_evaluations(self.epochs) * self._validation_steps
        for split, ids in self.planned_samples_sent(after).items():
            for start in range(0, len(ids), rows):
                yield Resend(step, split, ids[start : start + rows])
                step += 1

    def planned_samples_sent(self, after: int) -> dict[Split, NDArray[np.int64]]:
        """Return the samples, each once, that left the owner in so many steps, by split."""
        train = np.empty(0, np.int64)
        if after:
            # All samples leave in the first epoch, so later ones add none.
            batches = self._planned_order(0).batches[:after]
            train = np.unique(np.concatenate([batch.ids.reshape(-1) for batch in batches]))
        validated = self.planned_validation_steps(after) > 0
        rows = self.validation_rows if validated else 0
        return {"train": train, "validation": np.arange(rows)} if rows else {"train": train}

    def planned_validation_steps(self, after: int) -> int:
        """Count the validation steps that come before the `SaveEvent` after so many steps."""
        epoch = max(after - 1, 0) // self.steps_per_epoch
        return self._planned_evaluations(epoch) * self._validation_steps

    @property
    def _validation_steps(self) -> int:
        return -(-self.validation_rows // self.batch_size)

    def _plans_evaluation(self, epoch: int) -> bool:
        every = self.evaluate_every
        return epoch == self.epochs - 1 or bool(every and (epoch + 1) % every == 0)

    def _planned_evaluations(self, epoch: int) -> int:
        """Count the epochs before ``epoch`` that end in an evaluation."""
        return sum(map(self._plans_evaluation, range(epoch)))

    def _plans_save(self, step: int, ends_epoch: bool) -> bool:
        # On top of the ends of stages: those are needed, or a proof would speak of lost weights.
        if self.save_every and step % self.save_every == 0:
            return True
        return step in self.stage_bounds if self.stages else ends_epoch

    def _planned_order(self, epoch: int) -> EpochOrder:
        return order_epoch_batches(
            seed=self.seed,
            epoch=epoch,
            sub_labels=self.sub_labels,
            batch_size=self.batch_size,
            average_rows=self.average_rows,
        )


@dataclass(frozen=True, slots=True)
class StageOrder:
    """Data of one stage. ``samples`` counts released rows, averaged ones one by one."""

    digest: Digest
    samples: int


def plan_stage_orders(plan: RunPlan) -> Iterator[StageOrder]:
    """Yield what every stage trains on, in turn: what its tickets order.

    Each is only computed when it is asked for. The digest is over, per step: step, rows, averaged
    rows (int64), the sample ids (int64 [rows, averaged]) and the sub-label of each row (int64
    [rows]), little-endian.
    """
    parts: list[bytes] = []
    samples = 0
    for event in plan.planned_events():
        if isinstance(event, TrainStep):
            # Fixed byte order and width: the digest is signed, and any machine must get the same.
            ids = np.ascontiguousarray(event.batch.ids, dtype="<i8")
            parts.append(np.array([event.step, *ids.shape], dtype="<i8").tobytes())
            parts.append(ids.tobytes())
            parts.append(event.batch.sub_labels.astype("<i8").tobytes())
            samples += ids.size
        elif isinstance(event, StageEnd):
            yield StageOrder(digest_chunks(DATA_ORDER_TAG, parts), samples)
            parts, samples = [], 0
