"""A parsed ledger as the checks query it, and the findings of one check."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, TypeVar

from clicooper_hpc.errors import EvidenceError
from clicooper_hpc.printable import printable_text
from clicooper_hpc.provenance.envelope import Envelope, envelope_digest
from clicooper_hpc.provenance.identity import PublicIdentity
from clicooper_hpc.provenance.ledger_order import EntryId, LedgerOrder
from clicooper_hpc.provenance.merkle import MerkleTree
from clicooper_hpc.provenance.statements import Predicate, RunStatement
from clicooper_hpc.verification.evidence import Evidence

__all__ = ["Findings", "LedgerEntry", "LedgerView", "NotApplicableError"]

_P = TypeVar("_P", bound=Predicate)
#: Problems of one check that are spelt out.
_SHOWN: Final = 3
_LENGTH: Final = 400


class NotApplicableError(Exception):
    """A check has nothing to look at; the message says why."""


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """One ledger entry. ``digest`` is that of the envelope, ``payload`` of the statement (hex)."""

    index: int
    envelope: Envelope
    statement: Predicate
    digest: str
    payload: str


class Findings:
    """What is wrong, as one check found it."""

    def __init__(self) -> None:
        self._problems: list[str] = []
        #: Segments whose trainers' statements are wrong, where a single trainer signed them.
        self.segments: set[int] = set()

    def __bool__(self) -> bool:
        return bool(self._problems)

    def add_problem(self, where: object, what: str) -> None:
        """Note that ``what`` is wrong at ``where``."""
        if isinstance(where, EntryId) and where.kind in ("enrolment", "stage"):
            self.segments.add(where.segment)
        self._problems.append(printable_text(f"{where}: {what}"[:_LENGTH]))

    def expect(self, where: object, name: str, found: object, wanted: object) -> None:
        """Note a problem unless ``found`` equals ``wanted``; digests are shown shortened."""
        if found != wanted:
            self.add_problem(where, f"{name} is {_short(found)}, must be {_short(wanted)}")

    @contextmanager
    def at(self, where: object) -> Iterator[None]:
        """Turn an `EvidenceError` inside into a problem at ``where``."""
        try:
            yield
        except EvidenceError as error:
            self.add_problem(where, error.what)

    def text(self) -> str:
        """Return all problems in one line; beyond a few only their number."""
        # A run that is wrong throughout would fill the screen.
        more = len(self._problems) - _SHOWN
        return "; ".join(self._problems[:_SHOWN]) + (f"; and {more} more" if more > 0 else "")


class LedgerView:
    """Evidence with its entries parsed, and what the first checks established about it.

    Attributes
    ----------
    entries
        Parsed entries; set by the first check.
    run, order, owner, trainers
        Run statement, its ledger order, public keys; set by the check of the run statement.
    """

    run: RunStatement
    order: LedgerOrder
    owner: PublicIdentity
    trainers: list[PublicIdentity]

    def __init__(self, evidence: Evidence) -> None:
        self.evidence = evidence
        self.entries: list[LedgerEntry] = []
        self._tree = MerkleTree()
        # Over the bytes as given: a root must not depend on what can be parsed.
        for content in evidence.entries:
            self._tree.append(content)

    @property
    def size(self) -> int:
        """Number of entries there are."""
        return self._tree.size

    def root_at(self, size: int) -> str:
        """Return the root over the first ``size`` <= `size` entries."""
        return self._tree.root_at(size).hex()

    def add_entry(self, envelope: Envelope, statement: Predicate) -> None:
        """Add the next parsed entry."""
        index = len(self.entries)
        # The entry is what to_bytes() writes, or it would not have been parsed.
        digest = envelope_digest(self.evidence.entries[index]).hex
        payload = envelope.payload_digest().hex
        self.entries.append(LedgerEntry(index, envelope, statement, digest, payload))

    def key(self, rank: int) -> PublicIdentity:
        """Return the public key of ``rank`` (0 the owner)."""
        return self.trainers[rank - 1] if rank else self.owner

    def find_entry(self, entry_id: EntryId) -> LedgerEntry | None:
        """Return the entry of ``entry_id``, or None when the ledger ends before it.

        Raises
        ------
        EvidenceError
            A run of this shape has no such entry_id.
        """
        try:
            index = self.order.index_of(entry_id.kind, entry_id.stage, entry_id.segment)
        except ValueError:
            raise EvidenceError(f"the run has no {entry_id}") from None
        return self.entries[index] if index < len(self.entries) else None

    def require_entry(self, entry: EntryId) -> LedgerEntry:
        """Return an entry that stands before another one that is there."""
        return self.entries[self.order.index_of(entry.kind, entry.stage, entry.segment)]

    def statement_at(self, kind: type[_P], entry: EntryId) -> _P:
        """Return the statement of an entry that stands before another one that is there."""
        statement = self.require_entry(entry).statement
        if not isinstance(statement, kind):
            raise EvidenceError(f"the ledger has another statement for the {entry}")
        return statement

    def digest_of(self, entry: EntryId) -> bytes:
        """Return the envelope digest (32 bytes) of an entry that stands before another one."""
        return bytes.fromhex(self.require_entry(entry).digest)

    def all_of(self, kind: type[_P]) -> Iterator[tuple[EntryId, LedgerEntry, _P]]:
        """Yield id, entry and statement of every entry of one kind, in order."""
        for entry in self.entries:
            if isinstance(entry.statement, kind):
                yield self.order.entry_at(entry.index), entry, entry.statement


def _short(value: object) -> str:
    text = str(value)
    is_digest = len(text) > 24 and all(letter in "0123456789abcdef" for letter in text)
    return f"{text[:16]}..." if is_digest else text
