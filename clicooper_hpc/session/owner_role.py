"""The owner's role put together: channels, desk and files."""

from __future__ import annotations

from collections.abc import Callable

from clicooper_hpc.owner.preparation import Preparation
from clicooper_hpc.owner.role import Owner, OwnerLinks, StepNews
from clicooper_hpc.pipeline.course import Patience
from clicooper_hpc.runstore.buffer import TableWriter
from clicooper_hpc.session.assembly import channel_plan
from clicooper_hpc.session.scene import Scene
from clicooper_hpc.trainer.channels import REPORT_SLOTS

__all__ = ["make_owner"]


def make_owner(
    scene: Scene,
    preparation: Preparation,
    *,
    writer: TableWriter,
    news: Callable[[StepNews], None],
) -> Owner:
    """Open the owner's channels and return its role."""
    world, job, course, layout = scene.world, scene.job, scene.course, scene.layout
    plan = channel_plan(job, course, scene.contract)
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
        model=scene.model,
        layout=layout,
        writer=writer,
        folder=scene.folder.delivery,
        patience=Patience(job.pipeline.timeout_s, job.pipeline.startup_timeout_s),
        news=news,
    )
