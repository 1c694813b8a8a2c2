"""The fixed order of a ledger: which statement stands at which index.

The order is fixed: run statement, enrolments 1..N; per stage tickets 1..N, hand-offs 0..N-1,
proofs 1..N; last the delivery. So nothing can be left out, inserted or exchanged without showing.
The owner signs a checkpoint after the enrolments, after every stage and after the delivery.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from clicooper_hpc.provenance.statements import StatementKind

__all__ = ["EntryId", "LedgerOrder", "ledger_entry_before"]

_OF_STAGE: Final[tuple[StatementKind, ...]] = ("ticket", "handoff", "stage")


@dataclass(frozen=True, slots=True)
class EntryId:
    """Names one entry. ``segment`` is the boundary for a hand-off; 0 where unused."""

    kind: StatementKind
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
        # The sizes come from a signed statement, which anybody may have signed.
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

    def index_of(self, kind: StatementKind, stage: int = 0, segment: int = 0) -> int:
        """Return the index of an entry. ``segment`` is the boundary for a hand-off."""
        entry = EntryId(kind, stage, segment)
        first = 0 if kind in ("run", "handoff", "delivery") else 1
        last = {"run": 0, "delivery": 0, "handoff": self.segments - 1}.get(kind, self.segments)
        if not first <= segment <= last or not 0 <= stage < (
            self.stages if kind in _OF_STAGE else 1
        ):
            raise ValueError(f"a ledger of {self.segments} segments, {self.stages} stages: {entry}")
        match kind:
            case "run":
                return 0
            case "enrolment":
                return segment
            case "delivery":
                return self.size - 1
        # A formula, not a list: nothing can be left out, inserted or doubled and still fit.
        block = _OF_STAGE.index(kind) * self.segments
        return self.size_before_stage(stage) + block + segment - first

    def entry_at(self, index: int) -> EntryId:
        """Return what stands at ``index``: the inverse of `index_of`."""
        if not 0 <= index < self.size:
            raise ValueError(f"the ledger has {self.size} entries; there is none at {index}")
        if index == 0:
            return EntryId("run")
        if index <= self.segments:
            return EntryId("enrolment", 0, index)
        if index == self.size - 1:
            return EntryId("delivery")
        stage, rest = divmod(index - self.size_before_stage(0), len(_OF_STAGE) * self.segments)
        block, offset = divmod(rest, self.segments)
        # Boundaries count from 0, segments from 1.
        kind = _OF_STAGE[block]
        return EntryId(kind, stage, offset if kind == "handoff" else offset + 1)

    def all_entries(self) -> Iterator[EntryId]:
        """Yield what stands at every index, in order."""
        yield from map(self.entry_at, range(self.size))

    def recoverable_size(self, entries: int) -> int:
        """Return how many of ``entries`` whole entries a restart keeps.

        The owner stores entries before it sends them. So those at the sizes a checkpoint is signed
        at, and the tickets behind them, may have been sent; a part of a block was not.
        """
        # 0: enrolments are appended before the first update; a part of them was sent to nobody.
        sizes = [0, self.size]
        for stage in range(self.stages + 1):
            before = self.size_before_stage(stage)
            sizes += [before, before + self.segments] if stage < self.stages else [before]
        return max(size for size in sizes if size <= entries)

    def is_update_end(self, size: int) -> bool:
        """Whether a copy can have ``size`` entries after an update of the owner.

        Tickets of the next stage come with the end of the one before; behind the last stage there
        are none, and behind the delivery nothing at all.
        """
        last = self.size_before_stage(self.stages)
        if size >= last:
            return size in (last, self.size)
        first = self.size_before_stage(0)
        return size > first and (size - first - self.segments) % (3 * self.segments) == 0

    def proved_stages(self, size: int) -> int:
        """Return how many stages a ledger of ``size`` entries has all proofs of."""
        return sum(size >= self.size_before_stage(stage + 1) for stage in range(self.stages))


def ledger_entry_before(stage: int, segment: int) -> EntryId:
    """Return the last statement of a segment's trainer before ``stage``: proof or enrolment.

    ``segment`` 0 stands for the owner, whose word is the run statement.
    """
    if segment == 0:
        return EntryId("run")
    if stage == 0:
        return EntryId("enrolment", 0, segment)
    return EntryId("stage", stage - 1, segment)
