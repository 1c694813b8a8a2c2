"""What the index ``run.h5`` says of a run before its first step: header, pipeline, row counts."""

from __future__ import annotations

from datetime import UTC, datetime

from torch import nn

from clicooper_hpc import __version__
from clicooper_hpc.config.job import Job
from clicooper_hpc.pipeline.layout import Layout
from clicooper_hpc.provenance.ledger_order import LedgerOrder
from clicooper_hpc.run.environment import environment_commit, environment_versions
from clicooper_hpc.runstore.index import PipelineText, RunHeader
from clicooper_hpc.runstore.tables.schema import OWNER_TABLES, TRAINER_TABLES
from clicooper_hpc.training.events import DeliveryEvent, TrainStep, ValidationStep
from clicooper_hpc.training.run_plan import RunPlan
from clicooper_hpc.transport.world import World

__all__ = ["index_header", "index_pipeline", "index_row_counts"]


def index_header(world: World, job: Job, run_id: str) -> RunHeader:
    """Return the root attributes of a new run."""
    return RunHeader(
        run_id=run_id,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        creator_version=__version__,
        git_commit=environment_commit(),
        layout=job.output.layout,
        resolved_job=job.canonical(),
        job_digest=job.digest().hex,
        mpi_library=world.library,
        versions=environment_versions(),
        hosts=world.processors,
    )


def index_pipeline(plan: RunPlan, layout: Layout, model: nn.Sequential) -> PipelineText:
    """Return cuts, layers, and the schedule with one line per trainer."""
    lanes = [plan.planned_lane(segment, plan.micro_batches) for segment in range(plan.segments)]
    return PipelineText(
        cuts=(0, *layout.cuts),
        schedule="\n".join(
            f"{rank}: {' '.join(map(str, lane))}" for rank, lane in enumerate(lanes, start=1)
        ),
        layer_names=tuple(type(layer).__name__ for layer in model),
    )


def index_row_counts(plan: RunPlan) -> dict[str, int]:
    """Return how many rows each table will have at most, for files laid out in advance."""
    # At 0 first: a table must be laid out even if the run never writes to it.
    counts = dict.fromkeys((table.name for table in (*OWNER_TABLES, *TRAINER_TABLES)), 0)
    for event in plan.planned_events():
        if isinstance(event, TrainStep):
            counts["steps"] += 1
            counts["training"] += 1
            counts["releases"] += event.from_owner
            # A micro-batch may enter and leave in both directions, and so may a gradient norm.
            counts["messages"] += 4 * (plan.micro_batches + 1)
        elif isinstance(event, ValidationStep):
            counts["releases"] += event.from_owner
        elif isinstance(event, DeliveryEvent):
            counts["evaluation"] += 1
    stages = len(plan.stage_bounds) - 1
    if stages:
        order = LedgerOrder(plan.segments, stages)
        # The order of ledger entries is a formula of segments and stages, so their number is known.
        counts["ledger"] = order.size
        counts["proving"] = stages
        counts["checkpoints"] = counts["heads"] = len(order.checkpoint_sizes())
    return counts
