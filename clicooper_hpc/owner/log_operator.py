"""The owner as operator of the ledger: no proof enters that breaks a rule.

(1) run statement -> all; enrolments <- trainers; at a restart: the whole ledger -> all
(2) per stage: hand-off 0 -> trainer 1; hand-off i-1, proofs i and i-1 <- trainer i, checked
(3) ledger update -> all: new entries, signed checkpoint, tickets of the next stage
(4) at the end: delivery statement, last update, checkpoint cosigned by all trainers
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from clicooper_hpc.errors import EvidenceError
from clicooper_hpc.owner.ledger_writer import LedgerWriter
from clicooper_hpc.owner.stage_evidence import EquivocationError, StageEvidence, refuse_problems
from clicooper_hpc.provenance.envelope import (
    Envelope,
    sign_envelope,
)
from clicooper_hpc.provenance.identity import Identity, PublicIdentity
from clicooper_hpc.provenance.ledger_order import EntryId
from clicooper_hpc.provenance.ledger_update import WHOLE_LEDGER_BYTES
from clicooper_hpc.provenance.proof_message import ProofMessage, proof_message_limit
from clicooper_hpc.provenance.proof_rules import enrolled_mark_problems
from clicooper_hpc.provenance.statement_fields import decimal_field
from clicooper_hpc.provenance.statements import (
    DeliveredSegment,
    DeliveryStatement,
    Enrolment,
    Handoff,
    RunStatement,
    StageProof,
    parse_signed_statement,
)
from clicooper_hpc.provenance.tree_checkpoint import OWNER_NAME, SignedCheckpoint, checkpoint_signer
from clicooper_hpc.runstore.tables.writer import TableWriter
from clicooper_hpc.training.events import StageEnd
from clicooper_hpc.training.message_digests import MessageLog
from clicooper_hpc.training.restart_point import RestartPoint
from clicooper_hpc.training.run_plan import RunPlan, plan_stage_orders
from clicooper_hpc.training.stage_progress import StageProgress
from clicooper_hpc.transport.message_kind import Kind
from clicooper_hpc.transport.world import World

__all__ = ["LogOperator", "LogOperatorSettings"]


@dataclass(frozen=True, slots=True)
class LogOperatorSettings:
    """Settings of a `LogOperator`. ``wait_s`` is the longest wait for a trainer in seconds.

    ``start``: this start of the run (64 hex digits). ``keep_evidence``: stores what the owner found
    and returns its file.
    ``marks``: whether the job asks for marks in all segments; None if it leaves that open.
    """

    run: RunStatement
    identity: Identity
    trainers: tuple[PublicIdentity, ...]
    start: str
    keep_evidence: Callable[[bytes], Path]
    wait_s: float
    marks: bool | None


class LogOperator:
    """Operates the ledger of a run.

    Parameters
    ----------
    log
        Digests of the messages the owner sends and receives.
    """

    def __init__(
        self,
        world: World,
        plan: RunPlan,
        *,
        log: MessageLog,
        writer: TableWriter,
        settings: LogOperatorSettings,
    ) -> None:
        self._world = world
        self._log = log
        self._settings = settings
        self._run = settings.run
        self._ledger = LedgerWriter(
            settings.run, settings.identity, orders=plan_stage_orders(plan), writer=writer
        )
        #: Samples used so far in the stage under way.
        self._samples = 0

    def begin(self, point: RestartPoint) -> None:
        """(1) Begin the ledger, or continue the one that stands at ``point``."""
        if point.has_ledger:
            self._restore_ledger(point)
        else:
            self._enrol_trainers()

    def _enrol_trainers(self) -> None:
        """State the run, enrol the trainers, hand out the first tickets."""
        run = sign_envelope(self._run.statement_bytes(), self._settings.identity)
        self._world.broadcast_bytes(
            run.to_bytes(), limit_bytes=proof_message_limit(1), deadline_s=self._settings.wait_s
        )
        parts = self._world.gather_bytes(
            b"", limit_bytes=proof_message_limit(1), deadline_s=self._settings.wait_s
        )
        self._ledger.append_entry(run)
        for segment, content in enumerate((parts or [])[1:], start=1):
            where = f"enrolment of rank {segment}"
            key = self._key(segment)
            envelope, enrolment = parse_signed_statement(content, Enrolment, key, where=where)
            # It names the very envelope: an enrolment cannot be taken into another run.
            if (enrolment.run_id, enrolment.segment, enrolment.run) != (
                self._run.run_id,
                segment,
                run.digest().hex,
            ):
                raise EvidenceError("enrols for something else", where=where)
            refuse_problems(
                where, enrolled_mark_problems(enrolment.mark, required=self._settings.marks)
            )
            self._ledger.append_entry(envelope)
        self._publish(next_stage=0)

    @property
    def is_closed(self) -> bool:
        """Whether the delivery is signed: no more figures can be added to the run."""
        return self._ledger.is_closed

    def _restore_ledger(self, point: RestartPoint) -> None:
        """Take over the entries that stand, and show all of them to every trainer."""
        update = self._ledger.resume(point.ledger_entries, point.stored_checkpoints)
        if point.stage_progress is not None:
            self._samples = point.stage_progress.samples
            self._log.restore_digests(point.stage_progress.records)
        self._world.broadcast_bytes(
            update.to_bytes(), limit_bytes=WHOLE_LEDGER_BYTES, deadline_s=self._settings.wait_s
        )

    def stage_progress(self) -> StageProgress:
        """Return what a checkpoint must hold of the stage that is not at its end."""
        return StageProgress(self._samples, self._log.digests_so_far())

    def count_samples(self, samples: int) -> None:
        """Add the released samples that a step uses."""
        self._samples += samples

    def log_stage(self, event: StageEnd) -> None:
        """(2), (3) Take the proofs of a stage into the ledger, unless done before a restart."""
        stage, segments = event.stage, self._ledger.order.segments
        # Also for a stage that is proved already: its messages belong to no other.
        records, _ = self._log.take_digests()
        if stage < self._ledger.proved:
            self._samples = 0
            return
        handoff = Handoff(
            run_id=self._run.run_id,
            stage=stage,
            boundary=0,
            forward=records["forward_out"].flow(),
            backward=records["backward_in"].flow(),
        )
        mine = sign_envelope(handoff.statement_bytes(), self._settings.identity)
        # Trainer 1 countersigns it and sends it back with its proof.
        self._world.send_blob(
            1,
            ProofMessage(mine, None).to_bytes(),
            kind=Kind.PROOF,
            step=stage,
            deadline_s=self._settings.wait_s,
        )
        received = [self._receive_proof(segment, stage) for segment in range(1, segments + 1)]
        handoffs, proofs, upstream = zip(*received, strict=True)
        sent = StageEvidence(stage, self._settings.start, handoffs, proofs, upstream)
        # All are checked before the first is appended: the ledger never holds a part of a stage.
        keys = [self._settings.identity.public, *self._settings.trainers]
        try:
            sent.check_stage(self._run, self._ledger, keys, samples=self._samples)
        except EquivocationError as error:
            # Kept before the run ends: nobody else has both.
            path = self._settings.keep_evidence(error.evidence.to_bytes())
            raise EvidenceError(
                f"{error.what}: see {path}",
                where=error.where,
                remedy="Show that file: `clicooper verify` tells what it proves.",
            ) from error
        # Rules say what a proof names; only the owner knows what it sent to trainer 1.
        if handoffs[0].payload != mine.payload:
            raise EvidenceError(
                "trainer 1 signed another hand-off than the owner", where=f"stage {stage}"
            )
        for envelope in sent.entries():
            self._ledger.append_entry(envelope)
        self._samples = 0
        self._publish(next_stage=stage + 1)

    def log_delivery(
        self, weights: Sequence[str], results: Mapping[str, float], tables: str
    ) -> None:
        """(4) Close the ledger over the delivered segments (roots as hex).

        Before a restart that may have been done already, all but the cosigners.

        Raises
        ------
        EvidenceError
            A delivered segment is not the one its trainer proved, or other tables were signed
            before a restart.
        """
        last = self._ledger.order.stages - 1
        for segment, delivered in enumerate(weights, start=1):
            proof = self._ledger.read_entry(StageProof, EntryId("stage", last, segment))
            # Here and not only in `verify`: the owner must not sign for what it did not order.
            if proof.weights_out != delivered:
                raise EvidenceError(
                    "the delivered weights are not those of the last proof",
                    where=f"segment {segment}",
                    remedy=f"Do not accept it: trainer {segment} delivered something else.",
                )
        if self.is_closed:
            if self._ledger.read_entry(DeliveryStatement, EntryId("delivery")).tables != tables:
                raise EvidenceError(
                    "other results were signed before the restart than those there are now",
                    where="delivery",
                    remedy="Bring back the files the run left then.",
                )
            signed = self._ledger.sign_checkpoint()
        else:
            delivery = DeliveryStatement(
                run_id=self._run.run_id,
                segments=tuple(
                    DeliveredSegment(segment=segment, weights=root)
                    for segment, root in enumerate(weights, start=1)
                ),
                results={name: decimal_field(value) for name, value in results.items()},
                tables=tables,
                ledger=self._ledger.ledger.tree_head(),
            )
            self._ledger.append_entry(
                sign_envelope(delivery.statement_bytes(), self._settings.identity)
            )
            signed = self._publish(next_stage=None)
        parts = self._world.gather_bytes(
            b"", limit_bytes=proof_message_limit(1), deadline_s=self._settings.wait_s
        )
        for segment, content in enumerate((parts or [])[1:], start=1):
            where = f"checkpoint cosigned by rank {segment}"
            name, key = checkpoint_signer(segment), self._settings.trainers[segment - 1]
            theirs = SignedCheckpoint.parse(content.decode("utf-8", "replace"), where=where)
            # Both signatures: the trainer cosigned the owner's checkpoint, not one of its own.
            theirs.verify({OWNER_NAME: self._settings.identity.public, name: key}, where=where)
            # One note with all signatures, as check 5 wants to find it.
            signed = signed.with_signature_of(name, theirs, where=where)
        self._ledger.store_checkpoint(signed)
        self._log.close()

    def _receive_proof(
        self, segment: int, stage: int
    ) -> tuple[Envelope, Envelope, Envelope | None]:
        """Return what a trainer sends: hand-off before it, its proof, that of the one before."""
        where = f"proof of rank {segment}, stage {stage}"
        content = self._world.receive_blob(
            segment,
            kind=Kind.PROOF,
            step=stage,
            limit_bytes=proof_message_limit(3),
            deadline_s=self._settings.wait_s,
        )
        message = ProofMessage.from_bytes(bytes(content), where=where)
        if message.proof is None:
            raise EvidenceError("is missing", where=where)
        return message.handoff, message.proof, message.upstream

    def _publish(self, *, next_stage: int | None) -> SignedCheckpoint:
        """(3) Let all copies of the ledger grow."""
        signed, update = self._ledger.make_update(next_stage)
        self._world.broadcast_bytes(
            update.to_bytes(), limit_bytes=WHOLE_LEDGER_BYTES, deadline_s=self._settings.wait_s
        )
        return signed

    def _key(self, rank: int) -> PublicIdentity:
        return self._settings.trainers[rank - 1] if rank else self._settings.identity.public
