"""The owner's writer of the ledger: stores entries, issues tickets, signs checkpoints."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from typing import TypeVar

from clicooper_hpc.errors import EvidenceError, UsageError
from clicooper_hpc.provenance.envelope import Envelope, parse_envelope, sign_envelope
from clicooper_hpc.provenance.identity import Identity
from clicooper_hpc.provenance.ledger_order import EntryId, LedgerOrder
from clicooper_hpc.provenance.ledger_replica import LedgerReplica
from clicooper_hpc.provenance.ledger_update import LedgerUpdate
from clicooper_hpc.provenance.proof_rules import expected_ticket
from clicooper_hpc.provenance.statements import (
    Predicate,
    RunStatement,
    Ticket,
    parse_statement,
)
from clicooper_hpc.provenance.tree_checkpoint import SignedCheckpoint
from clicooper_hpc.runstore.tables.schema import ENVELOPE_BYTES, NOTE_BYTES
from clicooper_hpc.runstore.tables.writer import TableWriter
from clicooper_hpc.training.run_plan import StageOrder

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
        Data of all stages in turn, see `plan_stage_orders`.
    writer
        Stores entries and signed checkpoints.
    """

    def __init__(
        self,
        run: RunStatement,
        identity: Identity,
        *,
        orders: Iterator[StageOrder],
        writer: TableWriter,
    ) -> None:
        self._run = run
        self._identity = identity
        self._orders = orders
        self._writer = writer
        self.order = LedgerOrder(run.segments, run.stages)
        self.ledger = LedgerReplica(run.run_id, self.order)
        self._published = 0

    @property
    def is_closed(self) -> bool:
        """Whether the delivery is in it."""
        return self.ledger.size == self.order.size

    @property
    def proved(self) -> int:
        """Number of stages whose proofs are in it."""
        return self.order.proved_stages(self.ledger.size)

    def sign_checkpoint(self) -> SignedCheckpoint:
        """Sign the ledger as it stands."""
        return self.ledger.sign_checkpoint(self._identity)

    def read_entry(self, kind: type[_P], entry: EntryId) -> _P:
        """Return a statement of the ledger, whose signatures were checked when it went in."""
        statement = self.read_statement(entry)
        if not isinstance(statement, kind):
            raise EvidenceError("is another statement", where=str(entry))
        return statement

    def read_statement(self, entry: EntryId) -> Predicate:
        """Return a statement of any kind; see `read_entry`."""
        envelope = self.ledger.entry(entry.kind, entry.stage, entry.segment)
        return parse_statement(parse_envelope(envelope).payload, where=str(entry))

    def append_entry(self, envelope: Envelope) -> bytes:
        """Add an entry and return it as stored."""
        entry = self.order.entry_at(self.ledger.size)
        content = self.ledger.append(envelope)
        # A cut envelope could never be verified: better no run than one without evidence.
        if len(content) > ENVELOPE_BYTES:
            raise UsageError(
                f"the {entry} has {len(content)} bytes; at most {ENVELOPE_BYTES} are stored",
                remedy="Use fewer training stages (provenance.stages) or fewer segments.",
            )
        has_stage = entry.kind in ("ticket", "handoff", "stage")
        self._writer.append(
            "ledger",
            {
                "entry": self.ledger.size - 1,
                "kind": entry.kind,
                "segment": -1 if entry.kind in ("run", "delivery") else entry.segment,
                "stage": entry.stage if has_stage else -1,
                "envelope": content,
            },
        )
        return content

    def store_checkpoint(self, signed: SignedCheckpoint) -> None:
        """Append a signed checkpoint to its table."""
        text = signed.to_text()
        if len(text.encode()) > NOTE_BYTES:
            raise UsageError("too many trainers to cosign one checkpoint")
        self._writer.append("checkpoints", {"size": signed.checkpoint.size, "note": text})

    def make_update(self, next_stage: int | None) -> tuple[SignedCheckpoint, LedgerUpdate]:
        """Sign the ledger, add the tickets of the next stage, store it; return what to send to all.

        ``next_stage`` None: the ledger is closed, and its checkpoint waits for cosigners.
        """
        signed = self.sign_checkpoint()
        # The last one is stored only when all trainers have cosigned it.
        if next_stage is not None:
            self.store_checkpoint(signed)
        if next_stage is not None and next_stage < self.order.stages:
            # Behind the checkpoint: a ticket names the signed tree before it.
            self._issue_tickets(next_stage)
        # Whole entries, no consistency proof: nothing can be withheld from one trainer.
        entries = tuple(self.ledger.entries[self._published :])
        self._published = self.ledger.size
        # What the trainers are about to rely on must not be lost with this process.
        self._writer.sync()
        return signed, LedgerUpdate(entries, (signed.to_text(),))

    def resume(self, entries: Sequence[bytes], stored_checkpoints: int) -> LedgerUpdate:
        """Restart behind the ``entries`` that were kept; return the whole ledger to send to all.

        They and the first ``stored_checkpoints`` signed checkpoints are stored already; what is
        missing behind them, and was sent to nobody, is made now.
        """
        signed: list[SignedCheckpoint] = []
        sizes = self.order.checkpoint_sizes()
        for index, entry in enumerate(entries):
            self.ledger.append(parse_envelope(entry, where=f"ledger entry {index}"))
            if self.ledger.size in sizes:
                # Ed25519 is deterministic: what is signed again here is what was signed before.
                signed.append(self.sign_checkpoint())
        for checkpoint in signed[stored_checkpoints:]:
            if checkpoint.checkpoint.size < self.order.size:  # the last one waits for its cosigners
                self.store_checkpoint(checkpoint)
        stage = self.proved
        # Orders come one after the other; those of proved stages are passed by.
        for _ in range(stage):
            next(self._orders)
        if stage < self.order.stages:
            if self.ledger.size == self.order.size_before_stage(stage):
                self._issue_tickets(stage)
            else:
                next(self._orders)
        self._published = self.ledger.size
        self._writer.sync()
        return LedgerUpdate(tuple(self.ledger.entries), tuple(one.to_text() for one in signed))

    def _issue_tickets(self, stage: int) -> None:
        # One head for all: every ticket of a stage names the tree before the first of them.
        head, order = self.ledger.tree_head(), next(self._orders)
        for segment in range(1, self.order.segments + 1):
            expected = expected_ticket(
                self._run,
                stage,
                segment,
                data_order=order.digest.hex,
                samples=order.samples,
                ledger=head,
            )
            ticket = Ticket.model_validate({**expected, "nonce": secrets.token_hex(_NONCE_BYTES)})
            self.append_entry(sign_envelope(ticket.statement_bytes(), self._identity))
