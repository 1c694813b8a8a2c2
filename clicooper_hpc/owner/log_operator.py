"""The owner's side of the proofs: it keeps the ledger and lets nothing in that does not fit.

(1) run statement -> all; enrolments <- trainers; in a later life of the run: its ledger -> all
(2) per stage: hand-off 0 -> trainer 1; hand-off i-1 and proof <- every trainer i, checked
(3) bulletin -> all: new entries, signed checkpoint, tickets of the next stage
(4) at the end: delivery statement, last bulletin, checkpoint cosigned by all trainers
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from clicooper_hpc.errors import EvidenceError
from clicooper_hpc.owner.ledger_writer import LedgerWriter
from clicooper_hpc.provenance.chain import Place, mark_chain
from clicooper_hpc.provenance.envelope import (
    Envelope,
    parse_envelope,
    require_signatures,
    sign_payload,
)
from clicooper_hpc.provenance.fields import decimal
from clicooper_hpc.provenance.history import SNAPSHOT_BYTES
from clicooper_hpc.provenance.identity import Identity, PublicIdentity
from clicooper_hpc.provenance.ledger import OWNER_NAME, trainer_name
from clicooper_hpc.provenance.notes import SignedCheckpoint
from clicooper_hpc.provenance.packets import StagePacket, packet_limit
from clicooper_hpc.provenance.statements import (
    DeliveredSegment,
    Delivery,
    Enrolment,
    Handoff,
    Predicate,
    RunStatement,
    StageProof,
    parse_statement,
)
from clicooper_hpc.runstore.buffer import TableWriter
from clicooper_hpc.training.events import StageEnd
from clicooper_hpc.training.message_digests import MessageLog
from clicooper_hpc.training.restart_point import RestartPoint
from clicooper_hpc.training.run_plan import RunPlan, plan_stage_orders
from clicooper_hpc.training.stage_progress import StageProgress
from clicooper_hpc.transport.kinds import Kind
from clicooper_hpc.transport.world import World

__all__ = ["LogOperator", "LogOperatorSettings"]

_P = TypeVar("_P", bound=Predicate)


@dataclass(frozen=True, slots=True)
class LogOperatorSettings:
    """What the registrar is told. ``wait_s`` is the longest wait for a trainer."""

    run: RunStatement
    identity: Identity
    trainers: tuple[PublicIdentity, ...]
    wait_s: float


class LogOperator:
    """Keeps the ledger of a run.

    Parameters
    ----------
    log
        Gets the released messages.
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
        self._book = LedgerWriter(
            settings.run, settings.identity, orders=plan_stage_orders(plan), writer=writer
        )
        self._weights = list(settings.run.initial_weights)
        # What stage 0 starts with is each trainer's word; only the audit knows better.
        self._optimizers: list[str | None] = [None] * len(self._weights)
        self._samples = 0

    def begin(self, point: RestartPoint) -> None:
        """(1) Begin the ledger, or continue the one that stands at ``point``."""
        if point.has_ledger:
            self._restore_ledger(point)
        else:
            self._enrol_trainers()

    def _enrol_trainers(self) -> None:
        """State the run, enrol the trainers, hand out the first tickets."""
        run = sign_payload(self._run.statement(), self._settings.identity)
        self._world.broadcast_bytes(
            run.to_bytes(), limit_bytes=packet_limit(1), deadline_s=self._settings.wait_s
        )
        parts = self._world.gather_bytes(
            b"", limit_bytes=packet_limit(1), deadline_s=self._settings.wait_s
        )
        self._book.append(run)
        for segment, content in enumerate((parts or [])[1:], start=1):
            where = f"enrolment of rank {segment}"
            envelope, enrolment = self._signed(content, Enrolment, [segment], where)
            if (enrolment.run_id, enrolment.segment, enrolment.run) != (
                self._run.run_id,
                segment,
                run.digest().hex,
            ):
                raise EvidenceError("enrols for something else", where=where)
            self._book.append(envelope)
        self._publish(next_stage=0)

    @property
    def is_closed(self) -> bool:
        """Whether the delivery is signed: no more figures can be added to the run."""
        return self._book.is_closed

    def _restore_ledger(self, point: RestartPoint) -> None:
        """Take over the entries that stand, and show all of them to every trainer."""
        history = self._book.resume(point.ledger_entries, point.noted)
        if stage := self._book.proved:
            proofs = [
                self._book.statement(StageProof, Place("stage", stage - 1, segment))
                for segment in range(1, self._book.order.segments + 1)
            ]
            self._weights = [proof.weights_out for proof in proofs]
            self._optimizers = [proof.optimizer_out for proof in proofs]
        if point.stage_progress is not None:
            self._samples = point.stage_progress.samples
            self._log.restore_digests(point.stage_progress.records)
        self._world.broadcast_bytes(
            history.to_bytes(), limit_bytes=SNAPSHOT_BYTES, deadline_s=self._settings.wait_s
        )

    def stage_progress(self) -> StageProgress:
        """Return what a checkpoint must hold of the stage that is not at its end."""
        return StageProgress(self._samples, self._log.digests_so_far())

    def count(self, samples: int) -> None:
        """Note that a step uses so many released samples."""
        self._samples += samples

    def end(self, event: StageEnd) -> None:
        """(2), (3) Take the proofs of a stage into the ledger; an earlier life may have done so."""
        stage, segments = event.stage, self._book.order.segments
        records, _ = self._log.take_digests()
        if stage < self._book.proved:
            self._samples = 0
            return
        handoff = Handoff(
            run_id=self._run.run_id,
            stage=stage,
            boundary=0,
            forward=records["forward_out"].flow(),
            backward=records["backward_in"].flow(),
        )
        mine = sign_payload(handoff.statement(), self._settings.identity)
        self._world.send_blob(
            1,
            StagePacket(mine, None).to_bytes(),
            kind=Kind.PROOF,
            step=stage,
            deadline_s=self._settings.wait_s,
        )
        handoffs: list[Envelope] = []
        proofs: list[Envelope] = []
        for segment in range(1, segments + 1):
            packet = self._packet_from(segment, stage)
            handoffs.append(packet[0])
            proofs.append(packet[1])
        statements = [
            self._check_proof(stage, segment, handoffs, proofs)
            for segment in range(1, segments + 1)
        ]
        if handoffs[0].payload != mine.payload:
            raise EvidenceError(
                "trainer 1 signed another hand-off than the owner", where=f"stage {stage}"
            )
        for envelope in (*handoffs, *proofs):
            self._book.append(envelope)
        self._weights = [proof.weights_out for proof in statements]
        self._optimizers = [proof.optimizer_out for proof in statements]
        self._samples = 0
        self._publish(next_stage=stage + 1)

    def deliver(self, weights: Sequence[str], results: Mapping[str, float], tables: str) -> None:
        """(4) Close the ledger over the delivered segments (roots as hex).

        An earlier life may have done so, and lack only the cosigners.

        Raises
        ------
        EvidenceError
            A delivered segment is not the one its trainer proved, or the earlier life signed other
            tables.
        """
        for segment, (proved, delivered) in enumerate(zip(self._weights, weights, strict=True), 1):
            if proved != delivered:
                raise EvidenceError(
                    "the delivered weights are not those of the last proof",
                    where=f"segment {segment}",
                    remedy=f"Do not accept it: trainer {segment} delivered something else.",
                )
        if self.is_closed:
            if self._book.statement(Delivery, Place("delivery")).tables != tables:
                raise EvidenceError(
                    "an earlier life of the run signed other results than those there are now",
                    where="delivery",
                    remedy="Bring back the files it left.",
                )
            signed = self._book.sign()
        else:
            delivery = Delivery(
                run_id=self._run.run_id,
                segments=tuple(
                    DeliveredSegment(segment=segment, weights=root)
                    for segment, root in enumerate(weights, start=1)
                ),
                results={name: decimal(value) for name, value in results.items()},
                tables=tables,
                ledger=self._book.head(),
            )
            self._book.append(sign_payload(delivery.statement(), self._settings.identity))
            signed = self._publish(next_stage=None)
        parts = self._world.gather_bytes(
            b"", limit_bytes=packet_limit(1), deadline_s=self._settings.wait_s
        )
        for segment, content in enumerate((parts or [])[1:], start=1):
            where = f"checkpoint cosigned by rank {segment}"
            name, key = trainer_name(segment), self._settings.trainers[segment - 1]
            theirs = SignedCheckpoint.parse(content.decode("utf-8", "replace"), where=where)
            theirs.verify({OWNER_NAME: self._settings.identity.public, name: key}, where=where)
            if theirs.checkpoint != signed.checkpoint:
                raise EvidenceError("is of another ledger", where=where)
            signed = SignedCheckpoint(
                signed.checkpoint,
                (*signed.signatures, *(one for one in theirs.signatures if one[0] == name)),
            )
        self._book.note(signed)
        self._log.close()

    def _packet_from(self, segment: int, stage: int) -> tuple[Envelope, Envelope]:
        where = f"proof of rank {segment}, stage {stage}"
        content = self._world.receive_blob(
            segment,
            kind=Kind.PROOF,
            step=stage,
            limit_bytes=packet_limit(2),
            deadline_s=self._settings.wait_s,
        )
        packet = StagePacket.from_bytes(bytes(content), where=where)
        if packet.proof is None:
            raise EvidenceError("is missing", where=where)
        return packet.handoff, packet.proof

    def _check_proof(
        self, stage: int, segment: int, handoffs: Sequence[Envelope], proofs: Sequence[Envelope]
    ) -> StageProof:
        """Check one proof against ticket, ledger, hand-offs and the proof upstream."""
        place = Place("stage", stage, segment)
        handoff, handoff_envelope = handoffs[segment - 1], str(Place("handoff", stage, segment - 1))
        require_signatures(
            handoff, [self._key(segment - 1), self._key(segment)], where=handoff_envelope
        )
        _, proof = self._signed(proofs[segment - 1].to_bytes(), StageProof, [segment], str(place))
        bounds = self._run.stage_bounds
        upstream = handoff.payload_digest() if segment == 1 else proofs[segment - 2].digest()
        after = handoffs[segment].payload_digest().hex if segment < len(handoffs) else None
        wanted = {
            "run_id": self._run.run_id,
            "segment": segment,
            "stage": stage,
            "ticket": self._book.ledger.digest_of("ticket", stage, segment).hex(),
            "previous": self._book.ledger.standing(stage, segment).hex(),
            "upstream": upstream.hex,
            "handoff_in": handoff.payload_digest().hex,
            "handoff_out": after,
            "weights_in": self._weights[segment - 1],
            "steps": bounds[stage + 1] - bounds[stage],
            "samples": self._samples,
            "optimizer_in": self._optimizers[segment - 1] or proof.optimizer_in,
        }
        for name, value in wanted.items():
            if getattr(proof, name) != value:
                raise EvidenceError(f"its {name} is not what it must be", where=str(place))
        if proof.mark is not None and proof.mark.chain != self._chain(stage, segment):
            raise EvidenceError("its mark has another chain value", where=str(place))
        return proof

    def _chain(self, stage: int, segment: int) -> str:
        return mark_chain(
            ticket=self._book.ledger.digest_of("ticket", stage, segment),
            previous=self._book.ledger.standing(stage, segment),
            neighbour=self._book.ledger.standing(stage, segment - 1),
            weights_in=bytes.fromhex(self._weights[segment - 1]),
            public_key=self._key(segment).raw,
        ).hex

    def _publish(self, *, next_stage: int | None) -> SignedCheckpoint:
        """(3) Let all ledgers grow."""
        signed, bulletin = self._book.publish(next_stage)
        self._world.broadcast_bytes(
            bulletin.to_bytes(), limit_bytes=2**31, deadline_s=self._settings.wait_s
        )
        return signed

    def _key(self, rank: int) -> PublicIdentity:
        return self._settings.trainers[rank - 1] if rank else self._settings.identity.public

    def _signed(
        self, content: bytes, kind: type[_P], ranks: Sequence[int], where: str
    ) -> tuple[Envelope, _P]:
        envelope = parse_envelope(content, where=where)
        require_signatures(envelope, [self._key(rank) for rank in ranks], where=where)
        statement = parse_statement(envelope.payload, where=where)
        if not isinstance(statement, kind):
            raise EvidenceError(f"is no {kind.kind} statement", where=where)
        return envelope, statement
