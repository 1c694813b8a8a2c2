"""A trainer's role put together: channels, runtime, release cache and files."""

from __future__ import annotations

from clicooper_hpc.pipeline.runtime import SegmentRuntime
from clicooper_hpc.run.build import build_runtime, channel_plan
from clicooper_hpc.run.context import RunContext
from clicooper_hpc.run.signers import Signers, environment_of
from clicooper_hpc.run.stations import saver_of, stop_line_of
from clicooper_hpc.runstore.tables.writer import TableWriter
from clicooper_hpc.trainer.channels import TrainerChannels, open_trainer_channels
from clicooper_hpc.trainer.loop import Sources, Trainer
from clicooper_hpc.trainer.marker import Marker, MarkSettings
from clicooper_hpc.trainer.proof_exchange import Participant
from clicooper_hpc.trainer.prover import Prover, ProverSettings
from clicooper_hpc.trainer.release_cache import open_release_cache
from clicooper_hpc.trainer.release_source import ReleaseSource
from clicooper_hpc.training.message_digests import MessageLog
from clicooper_hpc.training.run_plan import Timeouts

__all__ = ["make_trainer"]


def make_trainer(scene: RunContext, *, writer: TableWriter) -> Trainer:
    """Open a trainer's channels and return its role."""
    world, job, course, layout = scene.world, scene.job, scene.course, scene.layout
    contract = scene.contract
    device = scene.device
    plan = channel_plan(job, course, contract)
    segment = world.rank - 1
    channels = open_trainer_channels(
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
    prover = (
        None if scene.signers is None else _prover(scene, scene.signers, runtime, channels, writer)
    )
    sources = None
    if channels.release is not None:
        shape = contract.release_shape
        train, validation = (
            ReleaseSource(
                channels.release,
                row_shape=shape,
                cache=open_release_cache(
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
        patience=Timeouts(job.pipeline.timeout_s, job.pipeline.startup_timeout_s),
        prover=prover,
        saver=saver_of(scene),
        stop_line=stop_line_of(scene),
    )


def _prover(
    scene: RunContext,
    signers: Signers,
    runtime: SegmentRuntime,
    channels: TrainerChannels,
    writer: TableWriter,
) -> Prover:
    world, job, course = scene.world, scene.job, scene.course
    log = MessageLog(course.total_steps, helper=world.cores > 1)
    channels.observe_messages(log)
    marker = None
    if signers.mark is not None:
        marker = Marker(
            runtime.segment.layers,
            MarkSettings(
                signers.mark, job.provenance.mark_every_steps, signers.credentials.mark_master
            ),
            run_id=scene.run_id,
            segment=world.rank,
            stages=len(course.agenda.bounds) - 1,
        )
    return Prover(
        world,
        course,
        runtime,
        log=log,
        marker=marker,
        writer=writer,
        settings=ProverSettings(
            participant=Participant(
                scene.run_id,
                signers.credentials.identity,
                signers.keys,
                wait_s=job.pipeline.startup_timeout_s,
            ),
            job_digest=scene.job_digest,
            environment=environment_of(world, scene.device),
            run=scene.folder.path if job.provenance.keep_checkpoints else None,
        ),
    )
