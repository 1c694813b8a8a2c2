"""The ledger as every rank holds it: all entries, their order and their Merkle tree."""

from __future__ import annotations

from clicooper_hpc.errors import EvidenceError
from clicooper_hpc.provenance.envelope import Envelope, envelope_digest, parse_envelope
from clicooper_hpc.provenance.identity import Identity, PublicIdentity
from clicooper_hpc.provenance.ledger_order import EntryId, LedgerOrder
from clicooper_hpc.provenance.ledger_update import LedgerUpdate
from clicooper_hpc.provenance.merkle import MerkleTree
from clicooper_hpc.provenance.statements import (
    Predicate,
    StatementKind,
    TreeHead,
    parse_statement,
)
from clicooper_hpc.provenance.tree_checkpoint import (
    OWNER_NAME,
    SignedCheckpoint,
    TreeCheckpoint,
    checkpoint_origin,
)

__all__ = ["LedgerReplica"]

_WHERE = "checkpoint of the owner"


class LedgerReplica:
    """One rank's copy of the ledger.

    Attributes
    ----------
    origin
        Name of the ledger in its checkpoints.
    order
        Which entry stands where.
    entries
        Envelopes as stored, in order.
    """

    def __init__(self, run_id: str, order: LedgerOrder) -> None:
        self.origin = checkpoint_origin(run_id)
        self.order = order
        self.entries: list[bytes] = []
        self._tree = MerkleTree()

    @property
    def size(self) -> int:
        """Number of entries."""
        return self._tree.size

    @property
    def root(self) -> bytes:
        """RFC 9162 root over all entries."""
        return self._tree.root()

    def tree_head(self, size: int | None = None) -> TreeHead:
        """Return size and root as statements name them; of the first ``size`` entries if given."""
        size = self.size if size is None else size
        return TreeHead(size=size, root=self._tree.root_at(size).hex())

    def entry(self, kind: StatementKind, stage: int = 0, segment: int = 0) -> bytes:
        """Return the envelope that stands for this statement."""
        return self.entries[self.order.index_of(kind, stage, segment)]

    def digest_of(self, entry: EntryId) -> bytes:
        """Return the envelope digest of an entry (32 bytes)."""
        return envelope_digest(self.entry(entry.kind, entry.stage, entry.segment)).value

    def read_entry(self, entry: EntryId) -> Predicate:
        """Return the statement of an entry. No signature is checked."""
        content, where = self.entry(entry.kind, entry.stage, entry.segment), str(entry)
        return parse_statement(parse_envelope(content, where=where).payload, where=where)

    def append(self, envelope: Envelope) -> bytes:
        """Add an envelope and return it as stored."""
        # The tree is over envelopes as stored, so that signatures are part of the order.
        content = envelope.to_bytes()
        self._push(content)
        return content

    def sign_checkpoint(self, identity: Identity, name: str = OWNER_NAME) -> SignedCheckpoint:
        """Sign the ledger as it stands."""
        return SignedCheckpoint.sign(self._checkpoint(), identity, name)

    def apply_update(self, update: LedgerUpdate, owner: PublicIdentity) -> list[SignedCheckpoint]:
        """Let the copy grow by an update of the owner and return the checkpoints in it.

        Raises
        ------
        EvidenceError
            An entry is no envelope, or the owner's checkpoints do not speak of this very ledger, at
            every size they must.
        """
        # Before an entry is taken: the number of checkpoints is fixed by the sizes alone.
        grown = self.size + len(update.entries)
        due = [size for size in self.order.checkpoint_sizes() if self.size < size <= grown]
        if not due or len(due) != len(update.checkpoints):
            raise EvidenceError(
                f"{len(update.checkpoints)} checkpoints of {len(due)} are there", where=_WHERE
            )
        # Entries behind the last checkpoint are covered by none, so only tickets may stand there.
        if not self.order.is_update_end(grown):
            raise EvidenceError(f"an update cannot end at {grown} entries", where=_WHERE)
        signed: list[SignedCheckpoint] = []
        for entry in update.entries:
            parse_envelope(entry, where=f"ledger entry {self.size}")
            self._push(entry)
            # Checked at this very size: entries behind a checkpoint are not covered by it.
            if self.size in due:
                signed.append(self._checked(update.checkpoints[len(signed)], owner))
        return signed

    def _checked(self, note: str, owner: PublicIdentity) -> SignedCheckpoint:
        """Parse a checkpoint of the ledger as it stands now."""
        signed = SignedCheckpoint.parse(note, where=_WHERE)
        signed.verify({OWNER_NAME: owner}, where=_WHERE)
        # The root is computed from what came, never taken from the owner.
        if signed.checkpoint != self._checkpoint():
            raise EvidenceError(
                f"speaks of another ledger than the {self.size} entries seen",
                where=_WHERE,
                remedy="The owner keeps two ledgers: stop, and show both signed checkpoints.",
            )
        return signed

    def _checkpoint(self) -> TreeCheckpoint:
        return TreeCheckpoint(self.origin, self.size, self.root)

    def _push(self, content: bytes) -> None:
        self.entries.append(content)
        self._tree.append(content)
