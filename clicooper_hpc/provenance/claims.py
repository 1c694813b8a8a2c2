"""The small records that statements are composed of."""

from __future__ import annotations

from typing import Annotated, Final, Self

from pydantic import Field, model_validator

from clicooper_hpc.provenance.fields import (
    Count,
    Decimal,
    Hex32,
    Margin,
    Name,
    Record,
    SegmentNumber,
    Timestamp,
)
from clicooper_hpc.provenance.marks.plan import MarkPlan, parse_tau
from clicooper_hpc.provenance.merkle import root_of

__all__ = [
    "DeliveredSegment",
    "Flow",
    "Interval",
    "MarkClaim",
    "MarkPlanClaim",
    "TreeHead",
]

#: RFC 9162 root of no messages.
_EMPTY_ROOT: Final = root_of([]).hex()


class TreeHead(Record):
    """The ledger at one moment: number of entries and RFC 9162 root."""

    size: Count
    root: Hex32


class Flow(Record):
    """Messages over one direction of a boundary in a stage; ``bytes`` counts payloads."""

    messages: Count
    bytes: Count
    root: Hex32

    @model_validator(mode="after")
    def _empty_or_not(self) -> Self:
        if (self.messages == 0) != (self.root == _EMPTY_ROOT) or (self.bytes and not self.messages):
            raise ValueError("number of messages, bytes and root contradict each other")
        return self


class MarkPlanClaim(Record):
    """How a segment will be marked, and the Merkle root of its stage keys, fixed beforehand."""

    bits: Annotated[int, Field(ge=1, le=4096)]
    weights_per_bit: Annotated[int, Field(ge=1, le=65536)]
    tau: Margin
    root: Hex32
    eligible: tuple[Name, ...]

    @model_validator(mode="after")
    def _no_name_twice(self) -> Self:
        if not self.eligible or len(set(self.eligible)) != len(self.eligible):
            raise ValueError("the eligible tensors are none, or one is named twice")
        return self

    @classmethod
    def of(cls, plan: MarkPlan, root: bytes) -> Self:
        """State ``plan`` with the root of the stage keys."""
        return cls(
            bits=plan.bits,
            weights_per_bit=plan.weights_per_bit,
            tau=plan.tau_text,
            root=root.hex(),
            eligible=plan.eligible,
        )

    def plan(self) -> MarkPlan:
        """Return the plan; `EvidenceError` if it is none that could be carried out."""
        return MarkPlan(self.bits, self.weights_per_bit, parse_tau(self.tau), self.eligible)


class MarkClaim(Record):
    """The mark of one stage as its trainer read it back."""

    chain: Hex32
    leaf_index: Count
    errors: Count
    statistic: Decimal


class Interval(Record):
    """Advisory wall-clock times of a stage."""

    start: Timestamp
    end: Timestamp


class DeliveredSegment(Record):
    """A segment as the owner received it."""

    segment: SegmentNumber
    weights: Hex32
