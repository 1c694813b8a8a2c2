"""Where every entry of a ledger stands, and the value that ties a mark to all that came before.

The order is fixed: run statement, enrolments 1..N; per stage tickets 1..N, hand-offs 0..N-1,
proofs 1..N; last the delivery. So nothing can be left out, inserted or exchanged without showing.
The owner signs a checkpoint after the enrolments, after every stage and after the delivery.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from clicooper_hpc.digests import Digest, digest_chunks
from clicooper_hpc.provenance.statements import Kind

__all__ = ["LedgerOrder", "Place", "mark_chain"]

_OF_STAGE: Final[tuple[Kind, ...]] = ("ticket", "handoff", "stage")
_DIGEST_BYTES = 32


@dataclass(frozen=True, slots=True)
class Place:
    """What stands at one index. ``segment`` is the boundary for a hand-off; 0 where unused."""

    kind: Kind
    stage: int = 0
    segment: int = 0

    def __str__(self) -> str:
        match self.kind:
            case "run":
                return "run statement"
            case "delivery":
                return "delivery"
            case "enrolment":
                return f"enrolment of segment {self.segment}"
            case "handoff":
                return f"hand-off {self.segment} of stage {self.stage}"
            case "ticket":
                return f"ticket of segment {self.segment}, stage {self.stage}"
            case "stage":
                return f"proof of segment {self.segment}, stage {self.stage}"


@dataclass(frozen=True, slots=True)
class LedgerOrder:
    """The ledger of a run with ``segments`` >= 1 segments and ``stages`` >= 1 stages."""

    segments: int
    stages: int

    def __post_init__(self) -> None:
        if self.segments < 1 or self.stages < 1:
            raise ValueError("a ledger has at least one segment and one stage")

    @property
    def size(self) -> int:
        """Entries of the complete ledger."""
        return self.size_before_stage(self.stages) + 1

    def size_before_stage(self, stage: int) -> int:
        """Entries before the tickets of ``stage``; ``stages`` stands for the delivery."""
        return 1 + self.segments + stage * len(_OF_STAGE) * self.segments

    def checkpoint_sizes(self) -> list[int]:
        """Sizes at which a checkpoint is signed: stages + 2 of them."""
        return [*map(self.size_before_stage, range(self.stages + 1)), self.size]

    def position(self, kind: Kind, stage: int = 0, segment: int = 0) -> int:
        """Return the index of an entry. ``segment`` is the boundary for a hand-off."""
        place = Place(kind, stage, segment)
        first = 0 if kind in ("run", "handoff", "delivery") else 1
        last = {"run": 0, "delivery": 0, "handoff": self.segments - 1}.get(kind, self.segments)
        if not first <= segment <= last or not 0 <= stage < (
            self.stages if kind in _OF_STAGE else 1
        ):
            raise ValueError(f"a ledger of {self.segments} segments, {self.stages} stages: {place}")
        match kind:
            case "run":
                return 0
            case "enrolment":
                return segment
            case "delivery":
                return self.size - 1
        block = _OF_STAGE.index(kind) * self.segments
        return self.size_before_stage(stage) + block + segment - first

    def place(self, index: int) -> Place:
        """Return what stands at ``index``: the inverse of `position`."""
        if not 0 <= index < self.size:
            raise ValueError(f"the ledger has {self.size} entries; there is none at {index}")
        if index == 0:
            return Place("run")
        if index <= self.segments:
            return Place("enrolment", 0, index)
        if index == self.size - 1:
            return Place("delivery")
        stage, rest = divmod(index - self.size_before_stage(0), len(_OF_STAGE) * self.segments)
        block, offset = divmod(rest, self.segments)
        kind = _OF_STAGE[block]
        return Place(kind, stage, offset if kind == "handoff" else offset + 1)

    def places(self) -> Iterator[Place]:
        """Yield what stands at every index, in order."""
        yield from map(self.place, range(self.size))


def mark_chain(
    *,
    ticket: bytes,
    previous: bytes,
    neighbour: bytes,
    weights_in: bytes,
    public_key: bytes,
) -> Digest:
    """Return the chain value a stage's mark is keyed with; all of it is fixed before the stage.

    Parameters
    ----------
    ticket
        Envelope digest of the stage's ticket for this segment.
    previous
        Envelope digest of this segment's proof of the stage before; of its enrolment in stage 0.
    neighbour
        The same of the segment before; for segment 1 the envelope digest of the run statement.
    weights_in
        Root of the segment's weights before the stage.
    public_key
        The trainer's raw public key.

    Raises
    ------
    ValueError
        A part does not have 32 bytes.
    """
    parts = (ticket, previous, neighbour, weights_in, public_key)
    if any(len(part) != _DIGEST_BYTES for part in parts):
        raise ValueError(f"every part of a chain value has {_DIGEST_BYTES} bytes")
    return digest_chunks("clicooper/v1/mark-chain", parts)
