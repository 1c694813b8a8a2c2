"""A trainer as prover of its stages: what it checks before it goes on, and what it signs.

per stage, trainer i; a stage proved before a restart is compared, not proved again
(1) start: chain value from the ledger; key, carriers and margin of the mark
(2) training: the mark goes in every M steps and after the last
(3) end: state digested and kept; message digests taken from the helper thread
(4) <- hand-off i-1 signed by the sender, and its proof; both checked; countersigned
(5) proof signed; -> trainer i+1 (own hand-off, proof); -> owner (hand-off i-1, proofs i and i-1)
(6) <- ledger update: entries, checkpoint, tickets; own copy grows, is compared, its head stored
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from clicooper_hpc.errors import EvidenceError
from clicooper_hpc.pipeline.runtime import SegmentRuntime
from clicooper_hpc.provenance.envelope import (
    Envelope,
    parse_envelope,
    require_envelope_signatures,
    sign_envelope,
)
from clicooper_hpc.provenance.ledger_order import EntryId, LedgerOrder
from clicooper_hpc.provenance.ledger_replica import LedgerReplica
from clicooper_hpc.provenance.proof_message import ProofMessage, proof_message_limit
from clicooper_hpc.provenance.proof_rules import (
    StageFacts,
    expected_proof,
    mark_chain_of,
)
from clicooper_hpc.provenance.statements import (
    Enrolment,
    Interval,
    Predicate,
    RunStatement,
    StageProof,
    Ticket,
    parse_statement,
    statement_environment_digest,
)
from clicooper_hpc.runstore.run_folder import RunFolder
from clicooper_hpc.runstore.tables.writer import TableWriter
from clicooper_hpc.trainer.marker import Marker
from clicooper_hpc.trainer.proof_exchange import Participant, ProofExchange
from clicooper_hpc.trainer.stage_recorder import StageRecorder, StateRoots
from clicooper_hpc.training.events import StageEnd, StageStart
from clicooper_hpc.training.message_digests import MessageLog
from clicooper_hpc.training.restart_point import RestartPoint
from clicooper_hpc.training.run_plan import RunPlan, plan_stage_orders
from clicooper_hpc.training.stage_progress import StageProgress
from clicooper_hpc.transport.world import World
from clicooper_hpc.verification.own_ledger import verify_own_ledger

__all__ = ["Prover", "ProverSettings"]


@dataclass(frozen=True, slots=True)
class ProverSettings:
    """Settings of a `Prover`.

    ``environment`` what this rank runs on; ``run`` the run folder if states are kept for audits;
    ``marks`` whether the job asks for marks in all segments, None if it leaves that open.
    ``folder`` the run folder, for evidence.
    """

    participant: Participant
    job_digest: str
    environment: Mapping[str, str]
    run: Path | None
    marks: bool | None
    folder: RunFolder


@dataclass(slots=True)
class _Stage:
    ticket: Ticket
    started: str
    begun: float
    samples: int = 0


class Prover:
    """Proves the stages of one segment.

    Parameters
    ----------
    log
        Digests of the messages of this rank's channels.
    marker
        Puts marks into the segment; None where there are none.
    """

    def __init__(
        self,
        world: World,
        plan: RunPlan,
        runtime: SegmentRuntime,
        *,
        log: MessageLog,
        marker: Marker | None,
        writer: TableWriter,
        settings: ProverSettings,
    ) -> None:
        self._runtime = runtime
        self._log = log
        self._marker = marker
        self._settings = settings
        self._participant = settings.participant
        self._segment = world.rank
        self._plan = plan
        self._recorder = StageRecorder(world.rank, runtime, writer, settings.run)
        self._order = LedgerOrder(plan.segments, len(plan.stage_bounds) - 1)
        self._orders = plan_stage_orders(plan)
        ledger = LedgerReplica(settings.participant.run_id, self._order)
        self._exchange = ProofExchange(world, settings.participant, ledger, writer)
        self._exchange_s = 0.0
        self._roots = StateRoots.of_state(self._recorder.pack_state(0))
        self._now: _Stage | None = None
        self._run: RunStatement

    def begin(self, point: RestartPoint) -> None:
        """Enrol, or take over the ledger; before the initial weights are replaced."""
        if point.has_ledger:
            self._restore_ledger(point)
        else:
            self._enrol()

    def _enrol(self) -> None:
        """Check the owner's statement of the run, enrol, and take the first tickets."""
        content = self._exchange.receive_broadcast(proof_message_limit(1))
        envelope = self._exchange.parse_from_owner(content, "run statement of the owner")
        run = parse_statement(envelope.payload, where="run statement of the owner")
        self._check_run(run)
        enrolment = Enrolment(
            run_id=self._participant.run_id,
            run=envelope.digest().hex,
            segment=self._segment,
            mark=None if self._marker is None else self._marker.plan_claim(),
            environment=dict(self._settings.environment),
        )
        signed = sign_envelope(enrolment.statement_bytes(), self._participant.identity)
        self._exchange.send_to_gather(signed.to_bytes())
        self._exchange.take_update({0: content, self._segment: signed.to_bytes()})

    def _restore_ledger(self, point: RestartPoint) -> None:
        """Compare the owner's ledger with what this rank saw; continue the stage it was in."""
        try:
            self._exchange.take_whole_ledger(point.heads, point.notes)
        except EvidenceError as error:
            found = self._exchange.equivocation
            if found is None:
                raise
            # Kept before the run ends: the owner's own copy of the second ledger may go.
            path = self._settings.folder.keep_equivocation(self._segment, found.to_bytes())
            raise EvidenceError(
                f"{error.what}, and it signed both: see {path}",
                where=error.where,
                remedy="Show that file: `clicooper verify` tells what it proves.",
            ) from error
        self._recorder.messages = point.messages
        where = "run statement of the owner"
        entry = self._exchange.ledger.entry("run")
        self._check_run(parse_statement(self._exchange.parse_from_owner(entry, where).payload))
        enrolment = parse_envelope(self._exchange.ledger.entry("enrolment", 0, self._segment))
        require_envelope_signatures(
            enrolment, [self._participant.identity.public], where="enrolment of this rank"
        )
        progress = point.stage_progress
        if progress is None:
            return
        # Of the last step done: a checkpoint at a stage's end precedes the proof of that stage.
        number = self._plan.planned_stage(point.step - 1)
        for _ in range(number):
            next(self._orders)
        self._roots = StateRoots(bytes.fromhex(progress.weights), bytes.fromhex(progress.training))
        self.start_stage(StageStart(number, *self._plan.stage_bounds[number : number + 2]))
        self._now = replace(self._stage(), started=progress.started, samples=progress.samples)
        self._log.restore_digests(progress.records)

    def stage_progress(self) -> StageProgress:
        """Return what a checkpoint must hold of the stage that is not at its end."""
        now = self._stage()
        return StageProgress(
            now.samples,
            self._log.digests_so_far(),
            started=now.started,
            weights=self._roots.weights.hex(),
            training=self._roots.training.hex(),
        )

    def is_proved(self, stage: int) -> bool:
        """Whether ``stage`` was proved before a restart."""
        return stage < self._order.proved_stages(self._exchange.ledger.size)

    def start_stage(self, event: StageStart) -> None:
        """(1) Take the ticket of the stage and prepare its mark."""
        ledger, stage = self._exchange.ledger, event.stage
        ticket = self._exchange.accept_ticket(self._run, stage, next(self._orders))
        self._now = _Stage(ticket, _now(), time.perf_counter())
        self._runtime.after_update = None
        if self._marker is not None:
            chain = mark_chain_of(
                ledger.digest_of,
                stage,
                self._segment,
                weights=self._roots.weights.hex(),
                public_key=self._participant.identity.public.raw,
            )
            self._runtime.after_update = self._marker.start_mark(
                stage, first=event.first, last=event.last, chain=chain.value
            )

    def count_samples(self, samples: int) -> None:
        """Add the released samples that a step used."""
        if self._now is not None:
            self._now.samples += samples

    def prove_stage(self, event: StageEnd, content: bytes | None, *, saved_s: float) -> None:
        """(3) to (6): prove the stage.

        ``content`` is the state now, if it is known; ``saved_s`` seconds that saving it took.
        """
        now = self._stage()
        self._runtime.after_update = None
        begun = time.perf_counter()
        content = self._recorder.pack_state(event.last) if content is None else content
        roots = StateRoots.of_state(content)
        # What is in the ledger is never signed a second time: two proofs would be a fork.
        if self.is_proved(event.stage):
            self._compare_with_proof(event.stage, roots)
            self._roots = roots
            self._log.take_digests()
            return
        self._recorder.keep_state(event.stage, event.last, content)
        ended = time.perf_counter()
        records, times = self._log.take_digests()
        self._recorder.append_messages(event.stage, records)
        self._recorder.append_proving_times(
            event.stage,
            {
                "mark_s": 0.0 if self._marker is None else self._marker.take_seconds(),
                "messages_s": times.training_s,
                "helper_s": times.helper_s,
                "state_s": saved_s + ended - begun,
                "exchange_s": self._exchange_s,
                "stage_s": ended - now.begun,
            },
        )
        # Rows that are written from here on are sealed with the next proof.
        tables = self._recorder.seal_stage()
        handoff_in, before = self._exchange.receive_handoff(self._run, event.stage, records)  # (4)
        # Before the proof, which names its digest.
        handoff_out = self._exchange.sign_handoff(event.stage, records)
        facts = StageFacts(
            entering=handoff_in.payload_digest().hex,
            leaving=None if handoff_out is None else handoff_out.payload_digest().hex,
            proof_before=None if before is None else before.digest().hex,
            start_weights=self._roots.weights.hex(),
            start_optimizer=self._roots.training.hex(),
            run_start=self._participant.start,
        )
        signed = self._sign_proof(now, facts, roots, tables)  # (5)
        if handoff_out is not None:
            message = ProofMessage(handoff_out, signed)
            self._exchange.send_proof(self._segment + 1, event.stage, message)
        # The neighbour first: it waits for this proof, the owner for all of them.
        # With the proof it names: the rank before may have sent the owner another.
        self._exchange.send_proof(0, event.stage, ProofMessage(handoff_in, signed, before))
        self._roots = roots
        index = self._order.index_of("stage", event.stage, self._segment)
        # The owner must have stored this very proof, or its ledger is not this rank's.
        self._exchange.take_update({index: signed.to_bytes()})  # (6)
        self._exchange_s = time.perf_counter() - ended

    def _sign_proof(
        self, now: _Stage, facts: StageFacts, roots: StateRoots, tables: str
    ) -> Envelope:
        """Fill a proof from the rules and from what this trainer alone knows."""
        ledger = self._exchange.ledger
        expected = expected_proof(self._run, now.ticket, facts, ledger.digest_of)
        if now.samples != expected["samples"]:
            # The plan said so many when the stage began; what ran must not be signed as if it had.
            raise EvidenceError(
                f"{now.samples} samples were used; its ticket orders {now.ticket.samples}",
                where=str(EntryId("stage", now.ticket.stage, self._segment)),
            )
        own = {
            "weights_out": roots.weights.hex(),
            "optimizer_out": roots.training.hex(),
            "mark": None if self._marker is None else self._marker.claim_mark(),
            "tables": tables,
            "environment": statement_environment_digest(self._settings.environment).hex,
            "time": Interval(start=now.started, end=_now()),
        }
        proof = StageProof.model_validate({**expected, **own})
        return sign_envelope(proof.statement_bytes(), self._participant.identity)

    def _compare_with_proof(self, stage: int, roots: StateRoots) -> None:
        """Compare the state after training a stage again with the proof from before the restart."""
        entry = EntryId("stage", stage, self._segment)
        proof = self._exchange.ledger.read_entry(entry)
        if not isinstance(proof, StageProof) or (proof.weights_out, proof.optimizer_out) != (
            roots.weights.hex(),
            roots.training.hex(),
        ):
            raise EvidenceError(
                "training this stage again gave another state than was proved",
                where=str(entry),
                remedy="Resume on the hardware and libraries the run began with, from an undamaged "
                "checkpoint.",
            )

    def cosign_ledger(self) -> None:
        """Take the last update and cosign the checkpoint of the finished ledger, if it holds."""
        checkpoint = self._exchange.last_checkpoint
        if checkpoint is None or checkpoint.checkpoint.size < self._order.size:
            checkpoint = self._exchange.take_update({})
        # What all have signed must be what anybody can verify: the owner's own words included.
        entries = self._exchange.ledger.entries
        verify_own_ledger(entries, self._participant.run_id, marks=self._settings.marks)
        self._exchange.cosign(checkpoint)
        self._log.close()

    def _check_run(self, run: Predicate) -> None:
        self._run = self._exchange.accept_run(
            run, self._plan, job_digest=self._settings.job_digest, weights=self._roots.weights.hex()
        )

    def _stage(self) -> _Stage:
        if self._now is None:
            raise ValueError("no stage was started")
        return self._now


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
