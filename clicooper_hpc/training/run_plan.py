"""The steps of a run as every rank derives them from the job, the contract and the sub-labels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from clicooper_hpc.pipeline.schedule import Coupling, Op, make_schedule
from clicooper_hpc.pipeline.simulator import required_slots
from clicooper_hpc.training.agenda import Agenda, Resend
from clicooper_hpc.training.learning_rate import learning_rate
from clicooper_hpc.training.microbatch import split_rows

__all__ = ["Course", "RatePlan", "Timeouts"]


#: What it takes to end all ranks: Open MPI's launcher lets one second pass before it kills them.
_TURN_S = 2.0


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Longest waits in seconds.

    ``step_s`` for a message of a step, once the first step is done; ``slow_s`` before that
    (libraries load, kernels are chosen) and for an evaluation.
    """

    step_s: float
    slow_s: float

    def in_turn(self, rank: int, ranks: int) -> float:
        """Return ``step_s`` for one rank, a little longer from rank to rank and for the owner most.

        All ranks wait for a hung one in the end; so one of its neighbours tells first, and the
        others are ended before they say the same.
        """
        return self.step_s + _TURN_S * (rank or ranks)


@dataclass(frozen=True, slots=True)
class RatePlan:
    """Course of the learning rate; see `clicooper_hpc.training.learning_rate.learning_rate`."""

    base: float
    schedule: str
    warmup_steps: int
    final_fraction: float


@dataclass(frozen=True, slots=True)
class Course:
    """Agenda, schedule and learning rate of a run with ``segments`` trainers.

    ``total_steps`` is the agenda's, counted once.
    """

    agenda: Agenda
    segments: int
    micro_batches: int
    schedule: str
    coupling: Coupling
    rates: RatePlan
    total_steps: int

    @property
    def schedule_name(self) -> str:
        """Name of the schedule that runs: one-way coupling has its own."""
        return "one-way" if self.coupling == "one-way" else self.schedule

    @property
    def largest_micro_batch(self) -> int:
        """Rows of the largest micro-batch."""
        return len(split_rows(self.agenda.batch_size, self.micro_batches)[0])

    def slots(self) -> int:
        """Receive slots per channel: what cannot deadlock, and one for overlap."""
        schedule = make_schedule(self.schedule_name, self.segments, self.micro_batches)
        return required_slots(schedule, self.coupling) + 1

    def lane(self, segment: int, micro_batches: int) -> tuple[Op, ...]:
        """Operations of ``segment`` (0-based) in a step of ``micro_batches`` micro-batches."""
        return make_schedule(self.schedule_name, self.segments, micro_batches)[segment]

    def parts(self, rows: int) -> tuple[range, ...]:
        """Micro-batches of a batch of ``rows`` rows."""
        return split_rows(rows, self.micro_batches)

    def refill(self, after: int) -> Iterator[Resend]:
        """Return what trainer 1 must be sent again, in messages that a channel takes."""
        return self.agenda.refill(after, self.largest_micro_batch)

    def rate(self, step: int) -> float:
        """Learning rate of one step."""
        return learning_rate(
            step,
            total_steps=self.total_steps,
            base=self.rates.base,
            schedule=self.rates.schedule,
            warmup_steps=self.rates.warmup_steps,
            final_fraction=self.rates.final_fraction,
        )
