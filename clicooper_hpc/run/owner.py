"""The owner's role put together: channels, release gate and files."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from clicooper_hpc import __version__
from clicooper_hpc.fronts.operations import TEMPERATURE
from clicooper_hpc.owner.evaluation import CleanScores, Score
from clicooper_hpc.owner.log_operator import LogOperator, LogOperatorSettings
from clicooper_hpc.owner.loop import Conclusion, Owner, OwnerLinks, StepNews
from clicooper_hpc.owner.setup import ReleaseSetup
from clicooper_hpc.provenance.statements import RunStatement
from clicooper_hpc.provenance.tensor_digest import digest_tensors
from clicooper_hpc.run.build import channel_plan
from clicooper_hpc.run.context import RunContext
from clicooper_hpc.run.signers import Signers
from clicooper_hpc.run.stations import saver_of, stop_line_of
from clicooper_hpc.runstore.safetensors_files import pack_safetensors
from clicooper_hpc.runstore.signed_digests import card_digest
from clicooper_hpc.runstore.tables.writer import TableWriter
from clicooper_hpc.trainer.channels import REPORT_SLOTS
from clicooper_hpc.training.message_digests import MessageLog
from clicooper_hpc.training.run_plan import Timeouts

__all__ = ["make_owner"]


def make_owner(
    scene: RunContext,
    preparation: ReleaseSetup,
    *,
    writer: TableWriter,
    news: Callable[[StepNews], None],
    card: str,
    created: str,
    conclude: Callable[[CleanScores, Score, Sequence[str]], Conclusion],
) -> Owner:
    """Open the owner's channels and return its role."""
    world, job, course, layout = scene.world, scene.job, scene.course, scene.layout
    plan = channel_plan(job, course, scene.contract)
    links = OwnerLinks(
        release=world.open_sender(
            "forward",
            1,
            capacity_bytes=plan.payload_bytes(layout.shapes[0], plan.average_rows),
            # A whole step may wait here, while the owner prepares the next one.
            slots=course.micro_batches,
            deadline_s=plan.deadline_s,
        ),
        report=world.open_receiver(
            "control",
            course.segments,
            capacity_bytes=plan.report_bytes,
            slots=REPORT_SLOTS,
            deadline_s=plan.deadline_s,
        ),
    )
    registrar = None
    if scene.signers is not None:
        log = MessageLog(course.total_steps, helper=world.cores > 1)
        links.release.observer = log.observer("forward_out")
        registrar = LogOperator(
            world,
            course,
            log=log,
            writer=writer,
            settings=LogOperatorSettings(
                run=_statement(scene, scene.signers, card, created),
                identity=scene.signers.credentials.identity,
                trainers=scene.signers.keys[1:],
                wait_s=job.pipeline.startup_timeout_s,
            ),
        )
    return Owner(
        world,
        course,
        links=links,
        gate=preparation.gate,
        held_out=preparation.held_out,
        temperature=None if preparation.front.origin.class_sums is None else TEMPERATURE,
        label_map=preparation.label_map,
        model=scene.model,
        layout=layout,
        writer=writer,
        folder=scene.folder.delivery,
        patience=Timeouts(job.pipeline.timeout_s, job.pipeline.startup_timeout_s),
        news=news,
        conclude=conclude,
        registrar=registrar,
        saver=saver_of(scene),
        stop_line=stop_line_of(scene),
    )


def _statement(scene: RunContext, signers: Signers, card: str, created: str) -> RunStatement:
    model, layout = scene.model, scene.layout
    initial: list[str] = []
    for segment in range(len(layout.segments)):
        state = layout.layers_of(model, segment).state_dict()
        initial.append(digest_tensors(pack_safetensors(state, {})).hex)
    return RunStatement(
        run_id=scene.run_id,
        created=created,
        creator_version=__version__,
        job_digest=scene.job_digest,
        card_digest=card_digest(card).hex,
        owner=signers.keys[0].raw.hex(),
        trainers=tuple(key.raw.hex() for key in signers.keys[1:]),
        cuts=(0, *layout.cuts),
        total_steps=scene.course.total_steps,
        stage_bounds=scene.course.agenda.bounds,
        coupling=scene.course.coupling,
        initial_weights=tuple(initial),
    )
