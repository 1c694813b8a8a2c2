"""Assembles the owner's role: channels, release gate, composed model, ledger."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from clicooper_hpc import __version__
from clicooper_hpc.owner.classifier import scores_temperature
from clicooper_hpc.owner.composed_model import ComposedModel
from clicooper_hpc.owner.evaluation import CleanEvaluation, Score
from clicooper_hpc.owner.log_operator import LogOperator, LogOperatorSettings
from clicooper_hpc.owner.loop import Conclusion, Owner, OwnerLinks, ReportedStep
from clicooper_hpc.owner.release_setup import ReleaseSetup
from clicooper_hpc.provenance.proof_rules import MARKS_DEMANDED
from clicooper_hpc.provenance.statements import RunStatement
from clicooper_hpc.provenance.tensor_digest import digest_tensors
from clicooper_hpc.run.build import build_channel_plan
from clicooper_hpc.run.context import RunContext
from clicooper_hpc.run.signers import Signers
from clicooper_hpc.runstore.safetensors_files import pack_safetensors
from clicooper_hpc.runstore.signed_digests import card_digest
from clicooper_hpc.trainer.channels import REPORT_SLOTS
from clicooper_hpc.training.message_digests import MessageLog

__all__ = ["OwnerDocuments", "assemble_owner_role"]


@dataclass(frozen=True, slots=True)
class OwnerDocuments:
    """Texts that the run statement speaks of: the printed card, and when the run was created."""

    card: str
    created: str


def assemble_owner_role(
    context: RunContext,
    preparation: ReleaseSetup,
    *,
    documents: OwnerDocuments,
    on_step: Callable[[ReportedStep], None],
    conclude: Callable[[CleanEvaluation, Score, Sequence[str]], Conclusion],
) -> Owner:
    """Open the owner's channels and return its role; ``on_step`` and ``conclude`` as in `Owner`."""
    world, job, plan, layout = context.world, context.job, context.plan, context.layout
    sizes = build_channel_plan(job, plan, context.contract)
    links = OwnerLinks(
        release=world.open_sender(
            "forward",
            1,
            capacity_bytes=sizes.payload_bytes(layout.shapes[0], sizes.average_rows),
            # A whole step may wait here, while the owner prepares the next one.
            slots=plan.micro_batches,
            deadline_s=sizes.deadline_s,
        ),
        report=world.open_receiver(
            "control",
            plan.segments,
            capacity_bytes=sizes.report_bytes,
            slots=REPORT_SLOTS,
            deadline_s=sizes.deadline_s,
        ),
    )
    log_operator = None
    if context.signers is not None:
        # The owner signs hand-off 0, so it digests what leaves as trainer 1 digests what comes.
        log = MessageLog(plan.total_steps, helper=world.cores > 1)
        links.release.observer = log.digest_observer("forward_out")
        log_operator = LogOperator(
            world,
            plan,
            log=log,
            writer=context.writer,
            settings=LogOperatorSettings(
                run=_assemble_run_statement(context, context.signers, documents),
                identity=context.signers.credentials.identity,
                trainers=context.signers.keys[1:],
                start=context.signers.start,
                keep_evidence=partial(context.folder.keep_equivocation, 0),
                wait_s=job.pipeline.startup_timeout_s,
                marks=MARKS_DEMANDED.get(job.provenance.marks),
            ),
        )
    return Owner(
        context.context_services(),
        links=links,
        gate=preparation.gate,
        model=ComposedModel(
            context.model,
            layout,
            folder=context.folder.delivery,
            label_map=preparation.label_map,
            held_out=preparation.held_out,
            temperature=scores_temperature(preparation.front),
        ),
        on_step=on_step,
        conclude=conclude,
        log_operator=log_operator,
    )


def _assemble_run_statement(
    context: RunContext, signers: Signers, documents: OwnerDocuments
) -> RunStatement:
    model, layout = context.model, context.layout
    initial: list[str] = []
    for segment in range(len(layout.segments)):
        state = layout.layers_of(model, segment).state_dict()
        # Trainers compare these with the weights they built: nobody can start from others unseen.
        initial.append(digest_tensors(pack_safetensors(state, {})).hex)
    return RunStatement(
        run_id=context.run_id,
        created=documents.created,
        creator_version=__version__,
        job_digest=context.job_digest,
        card_digest=card_digest(documents.card).hex,
        owner=signers.keys[0].raw.hex(),
        trainers=tuple(key.raw.hex() for key in signers.keys[1:]),
        cuts=(0, *layout.cuts),
        total_steps=context.plan.total_steps,
        stage_bounds=context.plan.stage_bounds,
        coupling=context.plan.coupling,
        initial_weights=tuple(initial),
    )
