"""The message by which the owner lets all copies of the ledger grow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from clicooper_hpc.errors import EvidenceError
from clicooper_hpc.provenance.canonical_json import (
    Json,
    encode_canonical_json,
    parse_canonical_json,
)
from clicooper_hpc.provenance.ledger_order import LedgerOrder

__all__ = ["WHOLE_LEDGER_BYTES", "LedgerUpdate", "ledger_update_limit", "whole_ledger_limit"]

#: Most bytes of an update that carries a whole ledger, at a restart.
WHOLE_LEDGER_BYTES: Final = 2**31
#: Bytes of an update per entry, and for its checkpoint.
# The largest envelope that the table `ledger` stores.
_ENTRY_BYTES = 32768
_CHECKPOINT_BYTES = 16384

_WHERE = "ledger update of the owner"


def ledger_update_limit(trainers: int) -> int:
    """Return the most bytes an update may have: all of a stage, and the tickets of the next."""
    # Hand-off, proof and ticket of every segment; at the end the delivery instead.
    return _CHECKPOINT_BYTES + _ENTRY_BYTES * (3 * trainers + 1)


def whole_ledger_limit(order: LedgerOrder) -> int:
    """Return the most bytes an update with the whole ledger may have, at a restart."""
    checkpoints = _CHECKPOINT_BYTES * len(order.checkpoint_sizes())
    return min(checkpoints + _ENTRY_BYTES * order.size, WHOLE_LEDGER_BYTES)


@dataclass(frozen=True, slots=True)
class LedgerUpdate:
    """New entries of the ledger, and the owner's checkpoints among them.

    At the end of a stage: its entries, the checkpoint behind them, and the tickets of the next
    stage behind that. At a restart: the whole ledger with all its checkpoints. Whoever applies it
    has every entry: nothing can be withheld from one trainer, and two different ledgers cannot be
    shown to two of them without two signed checkpoints that contradict each other.

    Parameters
    ----------
    entries
        Envelopes as stored, in order.
    checkpoints
        Signed notes for every size in between at which one is due, in order.
    """

    entries: tuple[bytes, ...]
    checkpoints: tuple[str, ...]

    def to_bytes(self) -> bytes:
        """Encode for the wire."""
        entries: list[Json] = [entry.decode("ascii") for entry in self.entries]
        checkpoints: list[Json] = [*self.checkpoints]
        return encode_canonical_json({"checkpoints": checkpoints, "entries": entries})

    @classmethod
    def from_bytes(cls, content: bytes, *, limit: int) -> LedgerUpdate:
        """Decode; `EvidenceError` if it is nothing `to_bytes` writes."""
        value = parse_canonical_json(content, limit=limit, where=_WHERE)
        if not isinstance(value, dict) or tuple(value) != ("checkpoints", "entries"):
            raise EvidenceError("has other fields than checkpoints and entries", where=_WHERE)
        entries = _update_texts(value["entries"])
        # Notes have a dash beyond ASCII; envelopes are ASCII, and stored as bytes.
        if not all(entry.isascii() for entry in entries):
            raise EvidenceError("an entry is no ASCII text", where=_WHERE)
        return cls(
            tuple(entry.encode("ascii") for entry in entries), _update_texts(value["checkpoints"])
        )


def _update_texts(value: Json) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise EvidenceError("a field is no list", where=_WHERE)
    texts = [item for item in value if isinstance(item, str)]
    if len(texts) != len(value):
        raise EvidenceError("an item is no text", where=_WHERE)
    return tuple(texts)
