"""What `clicooper plan` says of a job's front, without fitting or training it."""

from __future__ import annotations

from dataclasses import dataclass

from clicooper_hpc.config.job import Job
from clicooper_hpc.data.dataset import DataSet
from clicooper_hpc.data.split import Split
from clicooper_hpc.fronts.job_front import (
    build_base_front,
    describe_job_front,
    open_public_rows,
    outline_job_front,
)
from clicooper_hpc.owner.front_source import compared_front_run
from clicooper_hpc.owner.value_check import ValueRemark, check_values

__all__ = ["FrontOutline", "count_public_rows", "outline_front"]


@dataclass(frozen=True, slots=True)
class FrontOutline:
    """Shape and sign of the rows of a front, and in words where its weights come from, if any.

    ``values``: what is cut of the values of the training samples.
    """

    shape: tuple[int, ...]
    non_negative: bool
    origin: str | None
    values: tuple[ValueRemark, ...] = ()


def outline_front(job: Job, data: DataSet, train: Split) -> FrontOutline:
    """Return the outline of the front for rows of ``train``.

    Raises
    ------
    ClicooperError
        As for building it: weights, or the run it comes from, are missing or not what they should
        be.
    """
    delivered = compared_front_run(job, data)
    shape, non_negative = outline_job_front(job, data, train, delivered)
    origin = describe_job_front(job, data, train, delivered)
    base = None if job.front.kind == "dp-sgd" else build_base_front(job, data, train, delivered)
    return FrontOutline(shape, non_negative, origin, tuple(check_values(job, data, train, base)))


def count_public_rows(job: Job) -> int:
    """Return how many public rows leave in place of those of samples, without mixes."""
    public, rows = open_public_rows(job)
    public.close()
    return len(rows)
