"""Giving a rank its role: channels, runtime and files put together."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from clicooper_hpc.config.job import Job
from clicooper_hpc.owner.preparation import Preparation
from clicooper_hpc.owner.role import Owner, OwnerLinks, StepNews
from clicooper_hpc.pipeline.contract import Contract
from clicooper_hpc.pipeline.course import Course
from clicooper_hpc.pipeline.layout import Layout
from clicooper_hpc.runstore.buffer import TableWriter
from clicooper_hpc.session.assembly import build_runtime, channel_plan
from clicooper_hpc.trainer.channels import REPORT_SLOTS, open_channels
from clicooper_hpc.trainer.inputs import ReleaseSource
from clicooper_hpc.trainer.release_cache import open_cache
from clicooper_hpc.trainer.role import Sources, Trainer
from clicooper_hpc.transport.world import World

__all__ = ["make_owner", "make_trainer"]


def make_owner(
    world: World,
    job: Job,
    course: Course,
    layout: Layout,
    model: nn.Sequential,
    *,
    contract: Contract,
    preparation: Preparation,
    folder: Path,
    writer: TableWriter,
    news: Callable[[StepNews], None],
) -> Owner:
    """Open the owner's channels and return its role."""
    plan = channel_plan(job, course, contract)
    links = OwnerLinks(
        release=world.sender(
            "forward",
            1,
            capacity_bytes=plan.payload(layout.shapes[0], plan.average_rows),
            # A whole step may wait here, while the owner prepares the next one.
            slots=course.micro_batches,
            deadline_s=plan.deadline_s,
        ),
        report=world.receiver(
            "control",
            course.segments,
            capacity_bytes=plan.report_bytes,
            slots=REPORT_SLOTS,
            deadline_s=plan.deadline_s,
        ),
    )
    return Owner(
        world,
        course,
        links=links,
        desk=preparation.desk,
        held_out=preparation.held_out,
        label_map=preparation.label_map,
        model=model,
        layout=layout,
        writer=writer,
        folder=folder / "delivery",
        deadline_s=job.pipeline.timeout_s,
        news=news,
    )


def make_trainer(
    world: World,
    job: Job,
    course: Course,
    layout: Layout,
    model: nn.Sequential,
    *,
    contract: Contract,
    device: torch.device,
    folder: Path,
    writer: TableWriter,
) -> Trainer:
    """Open a trainer's channels and return its role."""
    plan = channel_plan(job, course, contract)
    segment = world.rank - 1
    channels = open_channels(
        world,
        plan,
        segments=course.segments,
        input_shape=layout.input_shape(segment),
        output_shape=layout.output_shape(segment),
        backprop=job.pipeline.coupling == "backprop",
        pinned=device.type == "cuda",
    )
    runtime = build_runtime(
        job,
        model,
        layout,
        segment=segment,
        outputs=contract.outputs,
        device=device,
        edges=channels.edges,
    )
    sources = None
    if channels.release is not None:
        shape = contract.release_shape
        train, validation = (
            ReleaseSource(
                channels.release,
                row_shape=shape,
                cache=open_cache(
                    job.release.cache,
                    samples=samples,
                    row_shape=shape,
                    file=folder / "cache" / f"{split}.float32",
                ),
            )
            for split, samples in (
                ("train", contract.samples),
                ("validation", contract.validation_samples),
            )
        )
        sources = Sources(train, validation)
    return Trainer(
        world,
        course,
        runtime,
        sources=sources,
        report=channels.report,
        writer=writer,
        deadline_s=job.pipeline.timeout_s,
    )
