"""A trainer's exchange with its neighbours and the owner: nothing goes on that was not checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from clicooper_hpc.errors import EvidenceError
from clicooper_hpc.provenance.envelope import (
    Envelope,
    countersign,
    parse_envelope,
    require_signatures,
    sign_payload,
)
from clicooper_hpc.provenance.history import SNAPSHOT_BYTES, LedgerSnapshot
from clicooper_hpc.provenance.identity import Identity, PublicIdentity
from clicooper_hpc.provenance.ledger import LedgerReplica, LedgerUpdate, ledger_update_limit
from clicooper_hpc.provenance.notes import SignedCheckpoint
from clicooper_hpc.provenance.packets import StagePacket, packet_limit
from clicooper_hpc.provenance.statements import Handoff, StageProof, parse_statement
from clicooper_hpc.runstore.buffer import TableWriter
from clicooper_hpc.training.message_digests import Channel, ChannelRecord
from clicooper_hpc.transport.kinds import Kind
from clicooper_hpc.transport.world import World

__all__ = ["Participant", "ProofExchange"]

Records = Mapping[Channel, ChannelRecord]


@dataclass(frozen=True, slots=True)
class Participant:
    """One rank among the others.

    ``keys`` public keys of all ranks, owner first; ``wait_s`` longest wait for one of them.
    """

    run_id: str
    identity: Identity
    keys: tuple[PublicIdentity, ...]
    wait_s: float


class ProofExchange:
    """Hand-offs, proofs and bulletins of one trainer; ``ledger`` is its copy of the ledger."""

    def __init__(
        self, world: World, party: Participant, ledger: LedgerReplica, writer: TableWriter
    ) -> None:
        self.ledger = ledger
        self._world = world
        self._party = party
        self._writer = writer
        self._segment = world.rank
        self._segments = ledger.order.segments
        #: The newest checkpoint of an earlier life, if there was one.
        self.last_checkpoint: SignedCheckpoint | None = None

    def broadcast(self, limit: int) -> bytes:
        """Take what the owner tells all."""
        return self._world.broadcast_bytes(None, limit_bytes=limit, deadline_s=self._party.wait_s)

    def hand_in(self, content: bytes) -> None:
        """Give the owner this rank's part of what it gathers from all."""
        self._world.gather_bytes(
            content, limit_bytes=packet_limit(1), deadline_s=self._party.wait_s
        )

    def take_over(self, stage: int, records: Records) -> tuple[Envelope, str]:
        """Countersign the hand-off from the rank before; return it and what is upstream."""
        before = self._segment - 1
        content = self._world.receive_blob(
            before,
            kind=Kind.PROOF,
            step=stage,
            limit_bytes=packet_limit(2),
            deadline_s=self._party.wait_s,
        )
        where = f"proof of rank {before}, stage {stage}"
        packet = StagePacket.from_bytes(bytes(content), where=where)
        sender = self._party.keys[before]
        require_signatures(packet.handoff, [sender], where=where)
        mine = self._handoff(stage, before, records["forward_in"], records["backward_out"])
        if packet.handoff.payload != mine.statement():
            raise EvidenceError(
                f"rank {before} claims to have exchanged other messages than came here",
                where=f"hand-off {before} of stage {stage}",
                remedy="One of the two ranks, or the network between them, changed messages.",
            )
        signed = countersign(packet.handoff, self._party.identity)
        if before == 0:
            return signed, packet.handoff.payload_digest().hex
        if packet.proof is None:
            raise EvidenceError("is missing", where=where)
        require_signatures(packet.proof, [sender], where=where)
        proof = parse_statement(packet.proof.payload, where=where)
        if not isinstance(proof, StageProof) or (proof.segment, proof.stage) != (before, stage):
            raise EvidenceError("is a proof of something else", where=where)
        return signed, packet.proof.digest().hex

    def handoff_out(self, stage: int, records: Records) -> Envelope | None:
        """Sign what went to and came from the next segment; None behind the last."""
        if self._segment == self._segments:
            return None
        mine = self._handoff(stage, self._segment, records["forward_out"], records["backward_in"])
        return sign_payload(mine.statement(), self._party.identity)

    def send(self, peer: int, stage: int, packet: StagePacket) -> None:
        """Send a hand-off and a proof to a rank."""
        self._world.send_blob(
            peer,
            packet.to_bytes(),
            kind=Kind.PROOF,
            step=stage,
            deadline_s=self._party.wait_s,
        )

    def take_bulletin(self, mine: Mapping[int, bytes]) -> SignedCheckpoint:
        """Let the ledger grow; ``mine`` are entries that must stand at their index."""
        limit = ledger_update_limit(self._segments)
        bulletin = LedgerUpdate.from_bytes(self.broadcast(limit), limit=limit)
        signed = self.ledger.apply(bulletin, self._party.keys[0])
        for index, entry in mine.items():
            if self.ledger.entries[index] != entry:
                raise EvidenceError(
                    "the owner put another statement in the place of this rank's",
                    where=f"ledger entry {index}",
                )
        self._note(signed)
        return signed

    def take_history(self, heads: Sequence[tuple[int, str]]) -> None:
        """Take over the ledger of an earlier life from the owner.

        Parameters
        ----------
        heads
            Size and root (hex) of the ledger as this rank saw and stored it then.

        Raises
        ------
        EvidenceError
            The owner's ledger is not the one this rank saw.
        """
        history = LedgerSnapshot.from_bytes(self.broadcast(SNAPSHOT_BYTES), limit=SNAPSHOT_BYTES)
        signed = self.ledger.take_history(history, self._party.keys[0])
        known = {one.checkpoint.size: one.checkpoint.root.hex() for one in signed}
        for size, root in heads:
            if known.get(size) != root:
                raise EvidenceError(
                    f"the owner's ledger is not the one rank {self._segment} saw before",
                    where=f"the first {size} entries of the ledger",
                    remedy="The owner keeps two ledgers, or its files are older than the run.",
                )
        for one in signed[len(heads) :]:
            self._note(one)
        self.last_checkpoint = signed[-1]

    def from_owner(self, content: bytes, where: str) -> Envelope:
        """Read an envelope that the owner alone must have signed."""
        envelope = parse_envelope(content, where=where)
        require_signatures(envelope, [self._party.keys[0]], where=where)
        return envelope

    def _note(self, signed: SignedCheckpoint) -> None:
        self._writer.append(
            "heads",
            {
                "size": signed.checkpoint.size,
                "root": signed.checkpoint.root.hex(),
            },
        )

    def _handoff(
        self, stage: int, boundary: int, forward: ChannelRecord, backward: ChannelRecord
    ) -> Handoff:
        return Handoff(
            run_id=self._party.run_id,
            stage=stage,
            boundary=boundary,
            forward=forward.flow(),
            backward=backward.flow(),
        )
