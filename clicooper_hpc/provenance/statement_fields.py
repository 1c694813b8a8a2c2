"""The value types and the small records that statements are composed of.

Strict and bounded, with one spelling for each value: what two programs read differently would give
one statement two meanings.
"""

from __future__ import annotations

import math
from typing import Annotated, Final, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from clicooper_hpc.provenance.canonical_json import MAX_INTEGER
from clicooper_hpc.provenance.marks.mark_plan import MarkPlan, parse_plan_tau
from clicooper_hpc.provenance.merkle import merkle_root

__all__ = [
    "Count",
    "Decimal",
    "DeliveredSegment",
    "Flow",
    "Hex32",
    "Interval",
    "Margin",
    "MarkClaim",
    "MarkPlanClaim",
    "Name",
    "Result",
    "RunId",
    "SegmentNumber",
    "StageNumber",
    "StrictModel",
    "Text",
    "Timestamp",
    "TreeHead",
    "decimal_field",
]


class StrictModel(BaseModel):
    """Base of everything in a statement: frozen, nothing converted, nothing unknown."""

    # A field that is ignored, or a "1" read as 1, would not survive being written again.
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


#: 32 bytes: a digest, a root, a nonce or a raw public key.
Hex32 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
#: 16 bytes that name a run.
RunId = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
#: A whole number that canonical JSON can hold.
Count = Annotated[int, Field(ge=0, le=MAX_INTEGER)]
#: A segment, counted from 1.
SegmentNumber = Annotated[int, Field(ge=1, le=65535)]
#: A training stage or a boundary, counted from 0.
StageNumber = Annotated[int, Field(ge=0, le=65534)]
# No control or format characters: evidence is printed on terminals.
Name = Annotated[str, StringConstraints(min_length=1, max_length=256, pattern=r"^[^\p{C}]+$")]
#: Free text of one line.
Text = Annotated[str, StringConstraints(max_length=1024, pattern=r"^[^\p{C}]*$")]
#: ISO 8601 in UTC. Advisory: the order of a run is the order of its ledger, not a clock's.
Timestamp = Annotated[
    str,
    StringConstraints(
        pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}([.][0-9]{1,6})?(Z|[+]00:00)$"
    ),
]
_NUMBER: Final = r"-?(0|[1-9][0-9]{0,17})([.][0-9]{1,18})?"
#: A finite number as text; canonical JSON has no floating-point numbers.
Decimal = Annotated[str, StringConstraints(pattern=f"^{_NUMBER}$")]
#: A measured number, which may have diverged.
Result = Annotated[str, StringConstraints(pattern=f"^({_NUMBER}|nan|inf|-inf)$")]
#: The margin tau of a mark: six digits after the point.
Margin = Annotated[str, StringConstraints(pattern=r"^[0-9]{1,3}[.][0-9]{6}$")]


def decimal_field(value: float, digits: int = 6) -> str:
    """Return ``value`` as statements spell it, rounded to ``digits`` places after the point."""
    if math.isnan(value):
        return "nan"
    if math.isinf(value):
        return "inf" if value > 0 else "-inf"
    return f"{value:.{digits}f}"


#: RFC 9162 root of no messages.
_EMPTY_ROOT: Final = merkle_root([]).hex()


class TreeHead(StrictModel):
    """The ledger at one moment: number of entries and RFC 9162 root."""

    size: Count
    root: Hex32


class Flow(StrictModel):
    """Messages over one direction of a boundary in a stage; ``bytes`` counts payloads."""

    messages: Count
    bytes: Count
    root: Hex32

    @model_validator(mode="after")
    def _empty_or_not(self) -> Self:
        # Or "nothing was sent" could be signed with a root of something.
        if (self.messages == 0) != (self.root == _EMPTY_ROOT) or (self.bytes and not self.messages):
            raise ValueError("number of messages, bytes and root contradict each other")
        return self


class MarkPlanClaim(StrictModel):
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
        return MarkPlan(self.bits, self.weights_per_bit, parse_plan_tau(self.tau), self.eligible)


class MarkClaim(StrictModel):
    """The mark of one stage as its trainer read it back."""

    chain: Hex32
    # The stage: which leaf of the enrolled root opens the key of this mark.
    leaf_index: Count
    errors: Count
    # Text: canonical JSON has no floating-point numbers.
    statistic: Decimal


class Interval(StrictModel):
    """Advisory wall-clock times of a stage."""

    start: Timestamp
    end: Timestamp


class DeliveredSegment(StrictModel):
    """A segment as the owner received it."""

    segment: SegmentNumber
    weights: Hex32
