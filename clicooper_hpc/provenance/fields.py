"""The kinds of values statements are made of: strict, bounded, with one spelling each."""

from __future__ import annotations

import math
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from clicooper_hpc.provenance.canonical import MAX_INTEGER

__all__ = [
    "Count",
    "Decimal",
    "Hex32",
    "Margin",
    "Name",
    "Record",
    "Result",
    "RunId",
    "SegmentNumber",
    "StageNumber",
    "Text",
    "Timestamp",
    "decimal",
]


class Record(BaseModel):
    """Base of everything in a statement: frozen, nothing converted, nothing unknown."""

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


def decimal(value: float, digits: int = 6) -> str:
    """Return ``value`` as statements spell it, rounded to ``digits`` places after the point."""
    if math.isnan(value):
        return "nan"
    if math.isinf(value):
        return "inf" if value > 0 else "-inf"
    return f"{value:.{digits}f}"
