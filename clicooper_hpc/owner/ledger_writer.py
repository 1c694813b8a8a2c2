"""The ledger as the owner writes it: entries, tickets, signed checkpoints, stored as they come."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from typing import TypeVar

from clicooper_hpc.digests import Digest
from clicooper_hpc.errors import EvidenceError, UsageError
from clicooper_hpc.provenance.chain import LedgerOrder, Place
from clicooper_hpc.provenance.envelope import Envelope, parse_envelope, sign_payload
from clicooper_hpc.provenance.history import LedgerSnapshot, proved_stages
from clicooper_hpc.provenance.identity import Identity
from clicooper_hpc.provenance.ledger import LedgerReplica, LedgerUpdate, origin_of
from clicooper_hpc.provenance.notes import SignedCheckpoint
from clicooper_hpc.provenance.statements import (
    Predicate,
    RunStatement,
    Ticket,
    TreeHead,
    parse_statement,
)
from clicooper_hpc.runstore.buffer import TableWriter
from clicooper_hpc.runstore.tables import ENVELOPE_BYTES, NOTE_BYTES

__all__ = ["LedgerWriter"]

_NONCE_BYTES = 32
_P = TypeVar("_P", bound=Predicate)


class LedgerWriter:
    """The owner's ledger of one run.

    Parameters
    ----------
    run
        What the run is.
    identity
        The owner's.
    orders
        Digests of the data order of all stages, see `plan_stage_orders`.
    writer
        Stores entries and signed checkpoints.
    """

    def __init__(
        self,
        run: RunStatement,
        identity: Identity,
        *,
        orders: Iterator[Digest],
        writer: TableWriter,
    ) -> None:
        self._run = run
        self._identity = identity
        self._orders = orders
        self._writer = writer
        self.order = LedgerOrder(run.segments, run.stages)
        self.ledger = LedgerReplica(origin_of(run.run_id), self.order)
        self._published = 0

    @property
    def is_closed(self) -> bool:
        """Whether the delivery is in it."""
        return self.ledger.size == self.order.size

    @property
    def proved(self) -> int:
        """Number of stages whose proofs are in it."""
        return proved_stages(self.order, self.ledger.size)

    def head(self) -> TreeHead:
        """Return size and root as statements name them."""
        return TreeHead(size=self.ledger.size, root=self.ledger.root.hex())

    def sign(self) -> SignedCheckpoint:
        """Sign the ledger as it stands."""
        return self.ledger.sign(self._identity)

    def statement(self, kind: type[_P], place: Place) -> _P:
        """Return a statement of the ledger, whose signatures were checked when it went in."""
        envelope = self.ledger.entry(place.kind, place.stage, place.segment)
        statement = parse_statement(parse_envelope(envelope).payload, where=str(place))
        if not isinstance(statement, kind):
            raise EvidenceError("is another statement", where=str(place))
        return statement

    def append(self, envelope: Envelope) -> bytes:
        """Add an entry and return it as stored."""
        place = self.order.place(self.ledger.size)
        content = self.ledger.append(envelope)
        if len(content) > ENVELOPE_BYTES:
            raise UsageError(
                f"the {place} has {len(content)} bytes; at most {ENVELOPE_BYTES} are stored",
                remedy="Use fewer training stages (provenance.stages) or fewer segments.",
            )
        has_stage = place.kind in ("ticket", "handoff", "stage")
        self._writer.append(
            "ledger",
            {
                "entry": self.ledger.size - 1,
                "kind": place.kind,
                "segment": -1 if place.kind in ("run", "delivery") else place.segment,
                "stage": place.stage if has_stage else -1,
                "envelope": content,
            },
        )
        return content

    def note(self, signed: SignedCheckpoint) -> None:
        """Store a signed checkpoint."""
        text = signed.to_text()
        if len(text.encode()) > NOTE_BYTES:
            raise UsageError("too many trainers to cosign one checkpoint")
        self._writer.append("checkpoints", {"size": signed.checkpoint.size, "note": text})

    def publish(self, next_stage: int | None) -> tuple[SignedCheckpoint, LedgerUpdate]:
        """Sign the ledger, add the tickets of the next stage, store it; return what to tell all.

        ``next_stage`` None: the ledger is closed, and its checkpoint waits for cosigners.
        """
        signed = self.sign()
        if next_stage is not None:
            self.note(signed)
        entries = tuple(self.ledger.entries[self._published :])
        tickets: tuple[bytes, ...] = ()
        if next_stage is not None and next_stage < self.order.stages:
            tickets = self._issue_tickets(next_stage)
        self._published = self.ledger.size
        # What the trainers are about to rely on must not be lost with this process.
        self._writer.sync()
        return signed, LedgerUpdate(entries, signed.to_text(), tickets)

    def resume(self, entries: Sequence[bytes], noted: int) -> LedgerSnapshot:
        """Go on behind the standing ``entries`` of an earlier life; return all of it to tell.

        They and the first ``noted`` signed checkpoints are stored already; what is missing behind
        them, and has been told to nobody, is made now.
        """
        notes: list[SignedCheckpoint] = []
        sizes = self.order.checkpoint_sizes()
        for index, entry in enumerate(entries):
            self.ledger.append(parse_envelope(entry, where=f"ledger entry {index}"))
            if self.ledger.size in sizes:
                notes.append(self.sign())
        for signed in notes[noted:]:
            if signed.checkpoint.size < self.order.size:  # the last one waits for its cosigners
                self.note(signed)
        stage = self.proved
        for _ in range(stage):
            next(self._orders)
        if stage < self.order.stages:
            if self.ledger.size == self.order.size_before_stage(stage):
                self._issue_tickets(stage)
            else:
                next(self._orders)
        self._published = self.ledger.size
        self._writer.sync()
        return LedgerSnapshot(tuple(self.ledger.entries), tuple(one.to_text() for one in notes))

    def _issue_tickets(self, stage: int) -> tuple[bytes, ...]:
        head, order = self.head(), next(self._orders).hex
        tickets: list[bytes] = []
        for segment in range(1, self.order.segments + 1):
            ticket = Ticket(
                run_id=self._run.run_id,
                segment=segment,
                stage=stage,
                first_step=self._run.stage_bounds[stage],
                last_step=self._run.stage_bounds[stage + 1],
                nonce=secrets.token_hex(_NONCE_BYTES),
                data_order=order,
                job_digest=self._run.job_digest,
                ledger=head,
            )
            tickets.append(self.append(sign_payload(ticket.statement(), self._identity)))
        return tuple(tickets)
