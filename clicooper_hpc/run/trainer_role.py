"""Assembles a trainer's role: channels, segment runtime, release cache, prover."""

from __future__ import annotations

from clicooper_hpc.pipeline.runtime import SegmentRuntime
from clicooper_hpc.provenance.proof_rules import MARKS_DEMANDED
from clicooper_hpc.run.build import build_channel_plan, build_runtime
from clicooper_hpc.run.context import RunContext
from clicooper_hpc.run.environment import replay_environment
from clicooper_hpc.run.signers import Signers
from clicooper_hpc.trainer.channels import TrainerChannels, open_trainer_channels
from clicooper_hpc.trainer.loop import ReleaseSources, Trainer
from clicooper_hpc.trainer.marker import Marker, MarkSettings
from clicooper_hpc.trainer.proof_exchange import Participant
from clicooper_hpc.trainer.prover import Prover, ProverSettings
from clicooper_hpc.trainer.release_cache import open_release_cache
from clicooper_hpc.trainer.release_source import ReleaseSource
from clicooper_hpc.training.message_digests import MessageLog

__all__ = ["assemble_trainer_role"]


def assemble_trainer_role(context: RunContext) -> Trainer:
    """Open a trainer's channels and return its role."""
    world, job, plan, layout = context.world, context.job, context.plan, context.layout
    contract = context.contract
    device = context.device
    segment = world.rank - 1
    channels = open_trainer_channels(
        world,
        build_channel_plan(job, plan, contract),
        segments=plan.segments,
        input_shape=layout.input_shape(segment),
        output_shape=layout.output_shape(segment),
        backprop=job.pipeline.coupling == "backprop",
        pinned=device.type == "cuda",
    )
    runtime = build_runtime(
        job,
        context.model,
        layout,
        segment=segment,
        outputs=contract.outputs,
        device=device,
        edges=channels.edges,
    )
    prover = (
        None
        if context.signers is None
        else _assemble_prover(context, context.signers, runtime, channels)
    )
    # Segment 1 alone reads released rows; what others receive comes over their channels.
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
                    file=context.folder.path / "cache" / f"{split}.float32",
                ),
            )
            for split, samples in (
                ("train", contract.samples),
                ("validation", contract.validation_samples),
            )
        )
        sources = ReleaseSources(train, validation)
    return Trainer(
        context.context_services(),
        runtime,
        sources=sources,
        report=channels.report,
        prover=prover,
    )


def _assemble_prover(
    context: RunContext,
    signers: Signers,
    runtime: SegmentRuntime,
    channels: TrainerChannels,
) -> Prover:
    world, job, plan = context.world, context.job, context.plan
    # The helper needs a core of its own: without one it would take training's.
    log = MessageLog(plan.total_steps, helper=world.cores > 1)
    channels.observe_messages(log)
    marker = None
    if signers.mark is not None:
        marker = Marker(
            runtime.segment.layers,
            MarkSettings(
                signers.mark, job.provenance.mark_every_steps, signers.credentials.mark_master
            ),
            run_id=context.run_id,
            segment=world.rank,
            stages=len(plan.stage_bounds) - 1,
        )
    return Prover(
        world,
        plan,
        runtime,
        log=log,
        marker=marker,
        writer=context.writer,
        settings=ProverSettings(
            participant=Participant(
                context.run_id,
                signers.credentials.identity,
                signers.keys,
                start=signers.start,
                wait_s=job.pipeline.startup_timeout_s,
            ),
            job_digest=context.job_digest,
            environment=replay_environment(world, context.device),
            # Without states nothing can be audited; whoever has no room for them says so in the
            # job.
            run=context.folder.path if job.provenance.keep_checkpoints else None,
            marks=MARKS_DEMANDED.get(job.provenance.marks),
            folder=context.folder,
        ),
    )
