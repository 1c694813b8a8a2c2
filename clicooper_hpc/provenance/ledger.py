"""The ledger as every rank holds it, and the bulletin by which the owner lets all copies grow.

A bulletin carries every new entry, the owner's signed checkpoint behind them, and the tickets of
the next stage, which come behind the checkpoint. Whoever applies it has the whole ledger: nothing
can be withheld from one trainer, and two different ledgers cannot be shown to two of them without
two signed checkpoints that contradict each other.
"""

from __future__ import annotations

from dataclasses import dataclass

from clicooper_hpc.errors import EvidenceError
from clicooper_hpc.provenance.canonical import Json, encode, parse
from clicooper_hpc.provenance.chain import LedgerOrder
from clicooper_hpc.provenance.envelope import Envelope, envelope_digest, parse_envelope
from clicooper_hpc.provenance.history import LedgerSnapshot
from clicooper_hpc.provenance.identity import Identity, PublicIdentity
from clicooper_hpc.provenance.merkle import Tree
from clicooper_hpc.provenance.notes import Checkpoint, SignedCheckpoint
from clicooper_hpc.provenance.statements import Kind

__all__ = [
    "OWNER_NAME",
    "LedgerReplica",
    "LedgerUpdate",
    "ledger_update_limit",
    "origin_of",
    "trainer_name",
]

OWNER_NAME = "owner"
#: Bytes of a bulletin per entry, and for its checkpoint.
_ENTRY_BYTES = 32768
_NOTE_BYTES = 16384


def origin_of(run_id: str) -> str:
    """Name of a run's ledger in its checkpoints."""
    return f"clicooper-hpc/{run_id}"


def trainer_name(segment: int) -> str:
    """Name under which the trainer of ``segment`` (from 1) signs checkpoints."""
    return f"trainer-{segment}"


def ledger_update_limit(trainers: int) -> int:
    """Return the most bytes a bulletin may have: all of a stage, and the tickets of the next."""
    return _NOTE_BYTES + _ENTRY_BYTES * (3 * trainers + 1)


@dataclass(frozen=True, slots=True)
class LedgerUpdate:
    """New entries (envelopes as stored), the checkpoint behind them, tickets behind that."""

    entries: tuple[bytes, ...]
    note: str
    tickets: tuple[bytes, ...]

    def to_bytes(self) -> bytes:
        """Encode for the wire."""
        entries: list[Json] = [entry.decode("ascii") for entry in self.entries]
        tickets: list[Json] = [ticket.decode("ascii") for ticket in self.tickets]
        return encode({"entries": entries, "note": self.note, "tickets": tickets})

    @classmethod
    def from_bytes(cls, content: bytes, *, limit: int) -> LedgerUpdate:
        """Decode; `EvidenceError` if it is nothing `to_bytes` writes."""
        where = "bulletin of the owner"
        value = parse(content, limit=limit, where=where)
        if not isinstance(value, dict) or tuple(value) != ("entries", "note", "tickets"):
            raise EvidenceError("has other fields than entries, note and tickets", where=where)
        note = value["note"]
        if not isinstance(note, str):
            raise EvidenceError("its note is no text", where=where)
        return cls(_texts(value["entries"], where), note, _texts(value["tickets"], where))


class LedgerReplica:
    """One rank's copy of the ledger.

    Attributes
    ----------
    order
        Which entry stands where.
    entries
        Envelopes as stored, in order.
    """

    def __init__(self, origin: str, order: LedgerOrder) -> None:
        self.origin = origin
        self.order = order
        self.entries: list[bytes] = []
        self._tree = Tree()

    @property
    def size(self) -> int:
        """Number of entries."""
        return self._tree.size

    @property
    def root(self) -> bytes:
        """RFC 9162 root over all entries."""
        return self._tree.root()

    def entry(self, kind: Kind, stage: int = 0, segment: int = 0) -> bytes:
        """Return the envelope that stands for this statement."""
        return self.entries[self.order.position(kind, stage, segment)]

    def digest_of(self, kind: Kind, stage: int = 0, segment: int = 0) -> bytes:
        """Return the envelope digest of an entry (32 bytes)."""
        return envelope_digest(self.entry(kind, stage, segment)).value

    def standing(self, stage: int, segment: int) -> bytes:
        """Envelope digest of a segment's last word before ``stage``: proof or enrolment.

        ``segment`` 0 stands for the owner, whose word is the run statement.
        """
        if segment == 0:
            return self.digest_of("run")
        if stage == 0:
            return self.digest_of("enrolment", 0, segment)
        return self.digest_of("stage", stage - 1, segment)

    def append(self, envelope: Envelope) -> bytes:
        """Add an envelope and return it as stored."""
        content = envelope.to_bytes()
        self._push(content)
        return content

    def sign(self, identity: Identity, name: str = OWNER_NAME) -> SignedCheckpoint:
        """Sign the ledger as it stands."""
        return SignedCheckpoint.sign(Checkpoint(self.origin, self.size, self.root), identity, name)

    def apply(self, bulletin: LedgerUpdate, owner: PublicIdentity) -> SignedCheckpoint:
        """Let the copy grow by a bulletin and return its checkpoint.

        Raises
        ------
        EvidenceError
            An entry is no envelope, or the owner's checkpoint does not speak of this very ledger.
        """
        for entry in bulletin.entries:
            parse_envelope(entry, where=f"ledger entry {self.size}")
            self._push(entry)
        signed = SignedCheckpoint.parse(bulletin.note, where="checkpoint of the owner")
        signed.verify({OWNER_NAME: owner}, where="checkpoint of the owner")
        if signed.checkpoint != Checkpoint(self.origin, self.size, self.root):
            raise EvidenceError(
                f"speaks of another ledger than the {self.size} entries seen",
                where="checkpoint of the owner",
                remedy="The owner keeps two ledgers: stop, and show both signed checkpoints.",
            )
        for ticket in bulletin.tickets:
            self._push(ticket)
        return signed

    def take_history(
        self, history: LedgerSnapshot, owner: PublicIdentity
    ) -> list[SignedCheckpoint]:
        """Fill an empty copy with the ledger of an earlier life; return its signed checkpoints.

        Raises
        ------
        EvidenceError
            An entry is no envelope, or the owner's checkpoints do not speak of this very ledger, at
            every size they must.
        """
        signed: list[SignedCheckpoint] = []
        due = [size for size in self.order.checkpoint_sizes() if size <= len(history.entries)]
        if len(due) != len(history.notes):
            raise EvidenceError(f"{len(history.notes)} checkpoints of {len(due)} are there")
        for entry in history.entries:
            parse_envelope(entry, where=f"ledger entry {self.size}")
            self._push(entry)
            if self.size in due:
                note = history.notes[len(signed)]
                one = SignedCheckpoint.parse(note, where="checkpoint of the owner")
                one.verify({OWNER_NAME: owner}, where="checkpoint of the owner")
                if one.checkpoint != Checkpoint(self.origin, self.size, self.root):
                    raise EvidenceError(
                        f"speaks of another ledger than the {self.size} entries before it",
                        where="checkpoint of the owner",
                    )
                signed.append(one)
        return signed

    def _push(self, content: bytes) -> None:
        self.entries.append(content)
        self._tree.append(content)


def _texts(value: Json, where: str) -> tuple[bytes, ...]:
    if not isinstance(value, list):
        raise EvidenceError("a field is no list", where=where)
    found: list[bytes] = []
    for item in value:
        if not isinstance(item, str) or not item.isascii():
            raise EvidenceError("an entry is no ASCII text", where=where)
        found.append(item.encode("ascii"))
    return tuple(found)
