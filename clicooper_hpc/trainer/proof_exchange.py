"""A trainer's exchange of proofs and ledger updates with its neighbours and the owner."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from clicooper_hpc.errors import EvidenceError
from clicooper_hpc.provenance.envelope import (
    Envelope,
    countersign_envelope,
    parse_envelope,
    require_envelope_signatures,
    sign_envelope,
)
from clicooper_hpc.provenance.equivocation import Equivocation
from clicooper_hpc.provenance.identity import Identity, PublicIdentity
from clicooper_hpc.provenance.ledger_order import EntryId
from clicooper_hpc.provenance.ledger_replica import LedgerReplica
from clicooper_hpc.provenance.ledger_update import (
    LedgerUpdate,
    ledger_update_limit,
    whole_ledger_limit,
)
from clicooper_hpc.provenance.proof_message import ProofMessage, proof_message_limit
from clicooper_hpc.provenance.proof_rules import expected_ticket, ticket_differences
from clicooper_hpc.provenance.statements import (
    Handoff,
    Predicate,
    RunStatement,
    StageProof,
    Ticket,
    parse_statement,
)
from clicooper_hpc.provenance.tree_checkpoint import SignedCheckpoint, checkpoint_signer
from clicooper_hpc.runstore.tables.writer import TableWriter
from clicooper_hpc.trainer.neighbour_proof import check_neighbour_proof
from clicooper_hpc.training.message_digests import Channel, ChannelRecord
from clicooper_hpc.training.run_plan import RunPlan, StageOrder
from clicooper_hpc.transport.message_kind import Kind
from clicooper_hpc.transport.world import World

__all__ = ["DisputedHandoffError", "Participant", "ProofExchange"]

Records = Mapping[Channel, ChannelRecord]


@dataclass(frozen=True, slots=True)
class Participant:
    """One rank among the others.

    ``keys`` public keys of all ranks, owner first; ``start`` this start of the run (64 hex digits);
    ``wait_s`` longest wait for a rank.
    """

    run_id: str
    identity: Identity
    keys: tuple[PublicIdentity, ...]
    start: str
    wait_s: float


class DisputedHandoffError(EvidenceError):
    """Two neighbours do not agree on what went between them, so one trained on something else."""


class ProofExchange:
    """Hand-offs, proofs and ledger updates of one trainer; ``ledger`` is its copy of the ledger."""

    def __init__(
        self, world: World, participant: Participant, ledger: LedgerReplica, writer: TableWriter
    ) -> None:
        self.ledger = ledger
        self._world = world
        self._participant = participant
        self._writer = writer
        self._segment = world.rank
        self._segments = ledger.order.segments
        #: The newest checkpoint from before a restart, if there was one.
        self.last_checkpoint: SignedCheckpoint | None = None
        #: What shows that the owner keeps two ledgers, once it is found.
        self.equivocation: Equivocation | None = None

    def receive_broadcast(self, limit: int) -> bytes:
        """Receive what the owner sends to all, at most ``limit`` bytes."""
        return self._world.broadcast_bytes(
            None, limit_bytes=limit, deadline_s=self._participant.wait_s
        )

    def send_to_gather(self, content: bytes) -> None:
        """Send this rank's part of what the owner gathers from all."""
        self._world.gather_bytes(
            content, limit_bytes=proof_message_limit(1), deadline_s=self._participant.wait_s
        )

    def accept_run(
        self, run: Predicate, plan: RunPlan, *, job_digest: str, weights: str
    ) -> RunStatement:
        """Return the owner's statement of the run, if it is the run this rank agreed to.

        Parameters
        ----------
        plan
            The run as this rank has computed it from the job.
        job_digest
            Digest (hex) of the job that all ranks have read.
        weights
            Tensor root (hex) of this rank's segment before training.

        Raises
        ------
        EvidenceError
            It is another statement, or says anything else than this rank knows.
        """
        where = "run statement of the owner"
        if not isinstance(run, RunStatement):
            raise EvidenceError("is another statement", where=where)
        if (run.run_id, run.job_digest) != (self._participant.run_id, job_digest):
            raise EvidenceError("speaks of another run or job", where=where)
        # The keys that were exchanged at the start, before any statement.
        if [run.owner, *run.trainers] != [key.raw.hex() for key in self._participant.keys]:
            raise EvidenceError("names other keys than the ranks showed", where=where)
        if run.initial_weights[self._segment - 1] != weights:
            raise EvidenceError("names other initial weights of this segment", where=where)
        # Tickets and proofs take their range of steps from here, and a mark is embedded over it.
        if (run.total_steps, run.stage_bounds) != (plan.total_steps, plan.stage_bounds):
            raise EvidenceError("has other stages than the agreed job", where=where)
        if run.coupling != plan.coupling:
            raise EvidenceError("has another coupling than the agreed job", where=where)
        return run

    def accept_ticket(self, run: RunStatement, stage: int, order: StageOrder) -> Ticket:
        """Return the owner's ticket of ``stage``; `EvidenceError` unless it orders the agreed job.

        ``order`` is the stage's data as this rank has computed them from the job.
        """
        entry = EntryId("ticket", stage, self._segment)
        content = self.ledger.entry(entry.kind, entry.stage, entry.segment)
        # The update was not signed entry by entry; a ticket binds the owner by itself.
        envelope = self.parse_from_owner(content, str(entry))
        ticket = parse_statement(envelope.payload, where=str(entry))
        expected = expected_ticket(
            run,
            stage,
            self._segment,
            data_order=order.digest.hex,
            samples=order.samples,
            ledger=self.ledger.tree_head(self.ledger.order.size_before_stage(stage)),
        )
        if not isinstance(ticket, Ticket) or ticket_differences(ticket, expected):
            raise EvidenceError("orders something else than the agreed job", where=str(entry))
        return ticket

    def receive_handoff(
        self, run: RunStatement, stage: int, records: Records
    ) -> tuple[Envelope, Envelope | None]:
        """Receive hand-off and proof of the rank before; check both and countersign the hand-off.

        Returns
        -------
        tuple
            The hand-off with both signatures, and the proof; the owner before segment 1 sends none.
        """
        before = self._segment - 1
        content = self._world.receive_blob(
            before,
            kind=Kind.PROOF,
            step=stage,
            limit_bytes=proof_message_limit(2),
            deadline_s=self._participant.wait_s,
        )
        where = f"proof of rank {before}, stage {stage}"
        message = ProofMessage.from_bytes(bytes(content), where=where)
        if message.upstream is not None:
            raise EvidenceError("comes with a proof that only the owner is sent", where=where)
        sender = self._participant.keys[before]
        require_envelope_signatures(message.handoff, [sender], where=where)
        mine = self._handoff(stage, before, records["forward_in"], records["backward_out"])
        # Compared as bytes and signed only then: the second signature says "these came here".
        if message.handoff.payload != mine.statement_bytes():
            raise DisputedHandoffError(
                f"rank {before} claims to have exchanged other messages than came here",
                where=f"hand-off {before} of stage {stage}",
                remedy="One of the two ranks, or the network between them, changed messages.",
            )
        signed = countersign_envelope(message.handoff, self._participant.identity)
        # The owner trains no segment, so it has no proof to send.
        if before == 0:
            return signed, None
        if message.proof is None:
            raise EvidenceError("is missing", where=where)
        require_envelope_signatures(message.proof, [sender], where=where)
        proof = parse_statement(message.proof.payload, where=where)
        if not isinstance(proof, StageProof) or (proof.segment, proof.stage) != (before, stage):
            raise EvidenceError("is a proof of something else", where=where)
        # Before this rank signs a proof that builds on it.
        start = self._participant.start
        check_neighbour_proof(proof, message.handoff, run, self.ledger, start=start)
        return signed, message.proof

    def sign_handoff(self, stage: int, records: Records) -> Envelope | None:
        """Sign what went to and came from the next segment; None behind the last."""
        if self._segment == self._segments:
            return None
        mine = self._handoff(stage, self._segment, records["forward_out"], records["backward_in"])
        return sign_envelope(mine.statement_bytes(), self._participant.identity)

    def send_proof(self, peer: int, stage: int, message: ProofMessage) -> None:
        """Send a hand-off and a proof to a rank."""
        self._world.send_blob(
            peer,
            message.to_bytes(),
            kind=Kind.PROOF,
            step=stage,
            deadline_s=self._participant.wait_s,
        )

    def take_update(self, mine: Mapping[int, bytes]) -> SignedCheckpoint:
        """Let the ledger grow; ``mine`` are entries that must stand at their index."""
        limit = ledger_update_limit(self._segments)
        update = LedgerUpdate.from_bytes(self.receive_broadcast(limit), limit=limit)
        signed = self.ledger.apply_update(update, self._participant.keys[0])
        # A valid signature alone would not do: the owner could log an older statement of this rank.
        for index, entry in mine.items():
            if self.ledger.entries[index] != entry:
                raise EvidenceError(
                    "the owner put another statement in the place of this rank's",
                    where=f"ledger entry {index}",
                )
        for one in signed:
            self._store_head(one)
        return signed[-1]

    def take_whole_ledger(
        self, heads: Sequence[tuple[int, str]], notes: Sequence[str] = ()
    ) -> None:
        """Take the ledger from before a restart over from the owner.

        Parameters
        ----------
        heads
            Size and root (hex) of the ledger as this rank saw and stored it then.
        notes
            The owner's signed notes behind them, in the same order.

        Raises
        ------
        EvidenceError
            The owner's ledger is not the one this rank saw; `equivocation` is set if the owner has
            signed both.
        """
        limit = whole_ledger_limit(self.ledger.order)
        update = LedgerUpdate.from_bytes(self.receive_broadcast(limit), limit=limit)
        signed = self.ledger.apply_update(update, self._participant.keys[0])
        known = {one.checkpoint.size: one for one in signed}
        for place, (size, root) in enumerate(heads):
            now = known.get(size)
            # The stored head outlives the restart: an owner cannot present another past after it.
            if now is None or now.checkpoint.root.hex() != root:
                if now is not None and place < len(notes):
                    self.equivocation = Equivocation(notes[place], now.to_text())
                raise EvidenceError(
                    f"the owner's ledger is not the one rank {self._segment} saw before",
                    where=f"the first {size} entries of the ledger",
                    remedy="The owner keeps two ledgers, or its files are older than the run.",
                )
        for one in signed[len(heads) :]:
            self._store_head(one)
        self.last_checkpoint = signed[-1]

    def cosign(self, checkpoint: SignedCheckpoint) -> None:
        """Add this rank's signature to the checkpoint of the finished ledger, for the owner."""
        name = checkpoint_signer(self._segment)
        signed = checkpoint.cosign(self._participant.identity, name)
        self.send_to_gather(signed.to_text().encode())

    def parse_from_owner(self, content: bytes, where: str) -> Envelope:
        """Read an envelope that the owner alone must have signed."""
        envelope = parse_envelope(content, where=where)
        require_envelope_signatures(envelope, [self._participant.keys[0]], where=where)
        return envelope

    def _store_head(self, signed: SignedCheckpoint) -> None:
        # In this rank's own file: check 16 holds the owner's ledger against it. With the owner's
        # signature, or a second ledger of the owner's would be this rank's word alone.
        self._writer.append(
            "heads",
            {
                "size": signed.checkpoint.size,
                "root": signed.checkpoint.root.hex(),
                "note": signed.to_text().encode(),
            },
        )

    def _handoff(
        self, stage: int, boundary: int, forward: ChannelRecord, backward: ChannelRecord
    ) -> Handoff:
        return Handoff(
            run_id=self._participant.run_id,
            stage=stage,
            boundary=boundary,
            forward=forward.flow(),
            backward=backward.flow(),
        )
