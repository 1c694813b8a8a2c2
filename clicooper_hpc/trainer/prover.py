"""A trainer's side of the proofs: what it signs, what it checks before it goes on.

per stage, trainer i; a stage that an earlier life of the run proved is compared, not proved again
(1) start: chain value from the ledger; key, carriers and margin of the mark
(2) training: the mark goes in every M steps and after the last
(3) end: state digested and kept; message digests taken from the helper thread
(4) <- hand-off i-1 signed by the sender, and its proof; both checked; countersigned
(5) proof signed; -> trainer i+1 (own hand-off, proof); -> owner (hand-off i-1, proof)
(6) <- bulletin: entries, checkpoint, tickets; own ledger copy grows, is compared and noted
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from clicooper_hpc.errors import EvidenceError
from clicooper_hpc.pipeline.runtime import SegmentRuntime
from clicooper_hpc.provenance.chain import LedgerOrder, Place
from clicooper_hpc.provenance.envelope import parse_envelope, require_signatures, sign_payload
from clicooper_hpc.provenance.history import proved_stages
from clicooper_hpc.provenance.ledger import LedgerReplica, origin_of, trainer_name
from clicooper_hpc.provenance.packets import StagePacket, packet_limit
from clicooper_hpc.provenance.statements import (
    Enrolment,
    Interval,
    RunStatement,
    StageProof,
    Ticket,
    environment_digest,
    parse_statement,
)
from clicooper_hpc.runstore.buffer import TableWriter
from clicooper_hpc.runstore.checkpoints import keep_state
from clicooper_hpc.runstore.tensors import pack_tensors
from clicooper_hpc.trainer.marker import ChainParts, Marker
from clicooper_hpc.trainer.proof_exchange import Participant, ProofExchange
from clicooper_hpc.trainer.stage_state import Roots, compare_with_proof, roots_of
from clicooper_hpc.training.events import StageEnd, StageStart
from clicooper_hpc.training.message_digests import Channel, ChannelRecord, MessageLog
from clicooper_hpc.training.restart_point import RestartPoint
from clicooper_hpc.training.run_plan import RunPlan, plan_stage_orders
from clicooper_hpc.training.segment_state import export_segment_state
from clicooper_hpc.training.stage_progress import StageProgress
from clicooper_hpc.transport.world import World

__all__ = ["Prover", "ProverSettings"]


@dataclass(frozen=True, slots=True)
class ProverSettings:
    """Settings of a prover.

    ``environment`` what this rank runs on; ``run`` the run folder if states are kept for audits.
    """

    party: Participant
    job_digest: str
    environment: Mapping[str, str]
    run: Path | None


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
        Gets the messages of this rank's channels.
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
        self._writer = writer
        self._settings = settings
        self._segment = world.rank
        self._plan = plan
        self._order = LedgerOrder(plan.segments, len(plan.stage_bounds) - 1)
        self._orders = plan_stage_orders(plan)
        ledger = LedgerReplica(origin_of(settings.party.run_id), self._order)
        self._exchange = ProofExchange(world, settings.party, ledger, writer)
        self._messages = 0
        self._exchange_s = 0.0
        self._roots = roots_of(self.state())
        self._now: _Stage | None = None

    def begin(self, point: RestartPoint) -> None:
        """Enrol, or take over the ledger; before the initial weights are replaced."""
        if point.has_ledger:
            self._restore_ledger(point)
        else:
            self._enrol()

    def _enrol(self) -> None:
        """Check the owner's statement of the run, enrol, and take the first tickets."""
        content = self._exchange.broadcast(packet_limit(1))
        envelope = self._exchange.from_owner(content, "run statement of the owner")
        run = parse_statement(envelope.payload, where="run statement of the owner")
        self._check_run(run)
        enrolment = Enrolment(
            run_id=self._settings.party.run_id,
            run=envelope.digest().hex,
            segment=self._segment,
            mark=None if self._marker is None else self._marker.claim(),
            environment=dict(self._settings.environment),
        )
        signed = sign_payload(enrolment.statement(), self._settings.party.identity)
        self._exchange.hand_in(signed.to_bytes())
        self._exchange.take_bulletin({0: content, self._segment: signed.to_bytes()})

    def _restore_ledger(self, point: RestartPoint) -> None:
        """Compare the owner's ledger with what this rank saw; continue the stage it was in."""
        self._exchange.take_history(point.heads)
        self._messages = point.messages
        where = "run statement of the owner"
        entry = self._exchange.ledger.entry("run")
        self._check_run(parse_statement(self._exchange.from_owner(entry, where).payload))
        enrolment = parse_envelope(self._exchange.ledger.entry("enrolment", 0, self._segment))
        require_signatures(
            enrolment, [self._settings.party.identity.public], where="enrolment of this rank"
        )
        progress = point.stage_progress
        if progress is None:
            return
        # Of the last step done: a checkpoint at a stage's end precedes the proof of that stage.
        number = self._plan.planned_stage(point.step - 1)
        for _ in range(number):
            next(self._orders)
        self._roots = Roots(bytes.fromhex(progress.weights), bytes.fromhex(progress.training))
        self.start(StageStart(number, *self._plan.stage_bounds[number : number + 2]))
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
        """Whether an earlier life of the run proved ``stage``."""
        return stage < proved_stages(self._order, self._exchange.ledger.size)

    def start(self, event: StageStart) -> None:
        """(1) Take the ticket of the stage and prepare its mark."""
        where = f"ticket of segment {self._segment}, stage {event.stage}"
        entry = self._exchange.ledger.entry("ticket", event.stage, self._segment)
        ticket = parse_statement(self._exchange.from_owner(entry, where).payload, where=where)
        order = next(self._orders).hex
        if not isinstance(ticket, Ticket) or (
            ticket.run_id,
            ticket.segment,
            ticket.stage,
            ticket.first_step,
            ticket.last_step,
            ticket.data_order,
            ticket.job_digest,
        ) != (
            self._settings.party.run_id,
            self._segment,
            event.stage,
            event.first,
            event.last,
            order,
            self._settings.job_digest,
        ):
            raise EvidenceError("orders something else than the agreed job", where=where)
        self._now = _Stage(ticket, _now(), time.perf_counter())
        self._runtime.after_update = None
        if self._marker is not None:
            self._runtime.after_update = self._marker.start(
                event.stage,
                first=event.first,
                last=event.last,
                parts=ChainParts(
                    ticket=self._exchange.ledger.digest_of("ticket", event.stage, self._segment),
                    previous=self._exchange.ledger.standing(event.stage, self._segment),
                    neighbour=self._exchange.ledger.standing(event.stage, self._segment - 1),
                    weights_in=self._roots.weights,
                    public_key=self._settings.party.identity.public.raw,
                ),
            )

    def count(self, samples: int) -> None:
        """Note that a step used so many released samples."""
        if self._now is not None:
            self._now.samples += samples

    def end(self, event: StageEnd, content: bytes | None, *, saved_s: float) -> None:
        """(3) to (6): prove the stage.

        ``content`` is the state now, if it is known; ``saved_s`` seconds that saving it took.
        """
        now = self._stage()
        self._runtime.after_update = None
        begun = time.perf_counter()
        content = self.state() if content is None else content
        roots = roots_of(content)
        if self.is_proved(event.stage):
            entry = self._exchange.ledger.entry("stage", event.stage, self._segment)
            compare_with_proof(roots, entry, str(Place("stage", event.stage, self._segment)))
            self._roots = roots
            self._log.take_digests()
            return
        if self._settings.run is not None:
            keep_state(
                self._settings.run,
                stage=event.stage,
                segment=self._segment,
                step=event.last,
                content=content,
            )
        ended = time.perf_counter()
        records, times = self._log.take_digests()
        self._keep_messages(event.stage, records)
        self._writer.append(
            "proving",
            {
                "stage": event.stage,
                "mark_s": 0.0 if self._marker is None else self._marker.take_seconds(),
                "messages_s": times.training_s,
                "helper_s": times.helper_s,
                "state_s": saved_s + ended - begun,
                "exchange_s": self._exchange_s,
                "stage_s": ended - now.begun,
            },
        )
        # What is about to be signed must outlive the node: it is never made again.
        self._writer.sync()
        tables = self._writer.take_seal()
        handoff_in, upstream = self._exchange.take_over(event.stage, records)  # (4)
        handoff_out = self._exchange.handoff_out(event.stage, records)
        proof = StageProof(
            run_id=self._settings.party.run_id,
            segment=self._segment,
            stage=event.stage,
            ticket=self._exchange.ledger.digest_of("ticket", event.stage, self._segment).hex(),
            previous=self._exchange.ledger.standing(event.stage, self._segment).hex(),
            upstream=upstream,
            handoff_in=handoff_in.payload_digest().hex,
            handoff_out=None if handoff_out is None else handoff_out.payload_digest().hex,
            weights_in=self._roots.weights.hex(),
            weights_out=roots.weights.hex(),
            optimizer_in=self._roots.training.hex(),
            optimizer_out=roots.training.hex(),
            steps=event.last - event.first,
            samples=now.samples,
            mark=None if self._marker is None else self._marker.finish(),
            tables=tables.hex,
            environment=environment_digest(self._settings.environment).hex,
            time=Interval(start=now.started, end=_now()),
        )
        signed = sign_payload(proof.statement(), self._settings.party.identity)  # (5)
        if handoff_out is not None:
            self._exchange.send(self._segment + 1, event.stage, StagePacket(handoff_out, signed))
        self._exchange.send(0, event.stage, StagePacket(handoff_in, signed))
        self._roots = roots
        place = self._order.position("stage", event.stage, self._segment)
        self._exchange.take_bulletin({place: signed.to_bytes()})  # (6)
        self._exchange_s = time.perf_counter() - ended

    def close(self) -> None:
        """Take the last bulletin and sign the finished ledger."""
        checkpoint = self._exchange.last_checkpoint
        if checkpoint is None or checkpoint.checkpoint.size < self._order.size:
            checkpoint = self._exchange.take_bulletin({})
        signed = checkpoint.cosign(self._settings.party.identity, trainer_name(self._segment))
        self._exchange.hand_in(signed.to_text().encode())
        self._log.close()

    def _check_run(self, run: object) -> None:
        where = "run statement of the owner"
        keys = [key.raw.hex() for key in self._settings.party.keys]
        if not isinstance(run, RunStatement):
            raise EvidenceError("is another statement", where=where)
        if (run.run_id, run.job_digest) != (self._settings.party.run_id, self._settings.job_digest):
            raise EvidenceError("speaks of another run or job", where=where)
        if [run.owner, *run.trainers] != keys:
            raise EvidenceError("names other keys than the ranks showed", where=where)
        if run.initial_weights[self._segment - 1] != self._roots.weights.hex():
            raise EvidenceError("names other initial weights of this segment", where=where)
        if run.stages != self._order.stages:
            raise EvidenceError("has another number of stages", where=where)

    def state(self) -> bytes:
        """Return the whole state of the segment as a safetensors file."""
        return pack_tensors(export_segment_state(self._runtime), {})

    def _stage(self) -> _Stage:
        if self._now is None:
            raise ValueError("no stage was started")
        return self._now

    def _keep_messages(self, stage: int, records: Mapping[Channel, ChannelRecord]) -> None:
        names = [name for name, record in records.items() for _ in record.digests]
        places = [place for record in records.values() for place in record.places]
        digests = [digest.hex() for record in records.values() for digest in record.digests]
        count = len(names)
        self._writer.extend(
            "messages",
            {
                "message": np.arange(self._messages, self._messages + count),
                "stage": np.full(count, stage, np.int64),
                "channel": np.array(names, "S16"),
                "step": np.array([step for step, _ in places], np.int64),
                "micro_batch": np.array([part for _, part in places], np.int64),
                "digest": np.array(digests, "S64"),
            },
        )
        self._messages += count


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
