"""Places in the ledger: what stands where, and what the entries before it were."""

from __future__ import annotations

from typing import Any

from independent_facts import Facts, planned_entry
from independent_formats import Envelope, MismatchError, tree_root


def need(condition: bool, place: str) -> None:
    """Refuse unless a condition holds."""
    if not condition:
        raise MismatchError(place)


def same(found: Any, wanted: Any, place: str) -> None:
    """Refuse what was found in a file if it could not be read or is something else."""
    if isinstance(found, MismatchError):
        raise MismatchError(f"{place}: {found}")
    need(found == wanted, f"{place}: something else is signed")


class Ledger:
    """Entries by their place. Set up by the first check, used by the others."""

    def __init__(self, facts: Facts):
        self.facts = facts
        self.entries: list[tuple[str, Envelope]] = []

    @property
    def statement(self) -> dict[str, Any]:
        """Predicate of the run statement."""
        return self.entries[0][1].predicate

    @property
    def segments(self) -> int:
        """N."""
        return len(self.statement["trainers"])

    @property
    def stages(self) -> int:
        """S, as the run statement plans them."""
        return len(self.statement["stage_bounds"]) - 1

    @property
    def size(self) -> int:
        """Entries of the finished ledger."""
        return 2 + self.segments + 3 * self.segments * self.stages

    def base(self, stage: int) -> int:
        """Size of the ledger before the tickets of a stage."""
        return 1 + self.segments + 3 * self.segments * stage

    def planned(self, place: int) -> tuple[str, int, int]:
        """Kind, stage and segment or boundary of the entry at a place."""
        return planned_entry(place, self.segments, self.size)

    def at(self, kind: str, stage: int, which: int) -> Envelope | None:
        """Ticket or proof of a segment, or hand-off of a boundary, if the ledger is that long."""
        n = self.segments
        shift = {"ticket": which - 1, "handoff": n + which, "stage": 2 * n + which - 1}[kind]
        place = self.base(stage) + shift
        return self.entries[place][1] if place < len(self.entries) else None

    def all(self, kind: str) -> list[tuple[int, int, Envelope]]:
        """(stage, segment or boundary, envelope) of all entries of a kind, in order."""
        places = (self.planned(place)[1:] for place in range(len(self.entries)))
        return [
            (s, w, e)
            for (s, w), (found, e) in zip(places, self.entries, strict=True)
            if found == kind
        ]

    def root(self, size: int) -> bytes:
        """Root of the first `size` entries."""
        return tree_root(self.facts.envelopes[:size])

    def enrolments(self) -> list[Envelope]:
        """Enrolments that are there."""
        return [envelope for _, envelope in self.entries[1 : 1 + self.segments]]

    def trainer(self, segment: int) -> str:
        """Public key of a segment's trainer."""
        key: str = self.statement["trainers"][segment - 1]
        return key

    def head_before(self, head: dict[str, Any], size: int, place: str) -> None:
        """Refuse a `{size, root}` that is not that of the ledger at a size."""
        need(
            head == {"size": size, "root": self.root(size).hex()},
            f"{place}: another ledger before it",
        )

    def previous(self, stage: int, segment: int) -> Envelope:
        """Last proof before a stage, or the enrolment; for segment 0 the run statement."""
        if segment == 0:
            return self.entries[0][1]
        found = self.at("stage", stage - 1, segment) if stage else self.entries[segment][1]
        assert found is not None
        return found
