"""The ledger between two lives of a run: what of it stands, and how the owner shows it to all.

The owner stores entries before anybody is told of them, so whatever was told is there, whole, when
a later life begins; and what was stored half was told to nobody. A ledger is therefore never taken
back: a later life goes on behind the last entries that are whole.
"""

from __future__ import annotations

from dataclasses import dataclass

from clicooper_hpc.errors import EvidenceError
from clicooper_hpc.provenance.canonical import Json, encode, parse
from clicooper_hpc.provenance.chain import LedgerOrder

__all__ = ["SNAPSHOT_BYTES", "LedgerSnapshot", "proved_stages", "standing_size"]

#: Most bytes of a whole ledger on the wire.
SNAPSHOT_BYTES = 2**31

_WHERE = "ledger of the earlier life"


def standing_size(order: LedgerOrder, entries: int) -> int:
    """Return how many of ``entries`` whole entries stand.

    A ledger stands at the sizes a checkpoint is signed at, and behind the tickets that follow.
    """
    sizes = [0, order.size]
    for stage in range(order.stages + 1):
        before = order.size_before_stage(stage)
        sizes += [before, before + order.segments] if stage < order.stages else [before]
    return max(size for size in sizes if size <= entries)


def proved_stages(order: LedgerOrder, size: int) -> int:
    """Return how many stages a ledger of ``size`` standing entries has the proofs of."""
    return sum(size >= order.size_before_stage(stage + 1) for stage in range(order.stages))


@dataclass(frozen=True, slots=True)
class LedgerSnapshot:
    """All standing entries (envelopes as stored), and the signed checkpoints, in order."""

    entries: tuple[bytes, ...]
    notes: tuple[str, ...]

    def to_bytes(self) -> bytes:
        """Encode for the wire."""
        entries: list[Json] = [entry.decode("ascii") for entry in self.entries]
        notes: list[Json] = [*self.notes]
        return encode({"entries": entries, "notes": notes})

    @classmethod
    def from_bytes(cls, content: bytes, *, limit: int) -> LedgerSnapshot:
        """Decode; `EvidenceError` if it is nothing `to_bytes` writes."""
        value = parse(content, limit=limit, where=_WHERE)
        if not isinstance(value, dict) or tuple(value) != ("entries", "notes"):
            raise EvidenceError("has other fields than entries and notes", where=_WHERE)
        entries, notes = value["entries"], value["notes"]
        if not isinstance(entries, list) or not isinstance(notes, list):
            raise EvidenceError("a field is no list", where=_WHERE)
        texts: list[str] = []
        for item in (*entries, *notes):
            if not isinstance(item, str):
                raise EvidenceError("an item is no text", where=_WHERE)
            texts.append(item)
        if not all(text.isascii() for text in texts[: len(entries)]):
            raise EvidenceError("an entry is no ASCII text", where=_WHERE)
        return cls(
            tuple(text.encode("ascii") for text in texts[: len(entries)]),
            tuple(texts[len(entries) :]),
        )
