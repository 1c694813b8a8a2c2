"""A trainer's role put together: channels, runtime, release cache and files."""

from __future__ import annotations

from clicooper_hpc.pipeline.course import Patience
from clicooper_hpc.runstore.buffer import TableWriter
from clicooper_hpc.session.assembly import build_runtime, channel_plan
from clicooper_hpc.session.scene import Scene
from clicooper_hpc.trainer.channels import open_channels
from clicooper_hpc.trainer.inputs import ReleaseSource
from clicooper_hpc.trainer.release_cache import open_cache
from clicooper_hpc.trainer.role import Sources, Trainer

__all__ = ["make_trainer"]


def make_trainer(scene: Scene, *, writer: TableWriter) -> Trainer:
    """Open a trainer's channels and return its role."""
    world, job, course, layout = scene.world, scene.job, scene.course, scene.layout
    contract = scene.contract
    device = scene.device
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
        scene.model,
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
                    file=scene.folder.path / "cache" / f"{split}.float32",
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
        patience=Patience(job.pipeline.timeout_s, job.pipeline.startup_timeout_s),
    )
