"""What a message is for (`Kind`) and which way it goes (`Direction`)."""

from __future__ import annotations

from enum import IntEnum
from typing import Literal

__all__ = ["DIRECTIONS", "Direction", "Kind"]

Direction = Literal["forward", "backward", "control"]

#: Towards the last trainer, towards the first, and beside the training.
DIRECTIONS: tuple[Direction, ...] = ("forward", "backward", "control")


class Kind(IntEnum):
    """Purpose of a message; the number is its code on the wire."""

    # The numbers are part of the wire format (docs/provenance.md digests them): never reuse one.
    CONTRACT = 1
    LABELS = 2
    RELEASE = 3
    ACTIVATION = 4
    GRADIENT = 5
    LOGITS = 6
    SEGMENT = 7
    NORM = 8
    METRICS = 9
    CONTROL = 10
    PROOF = 11

    @property
    def words(self) -> str:
        """The kind as it reads in an error."""
        return _KIND_WORDS[self]


_KIND_WORDS = {
    Kind.CONTRACT: "contract",
    Kind.LABELS: "sub-labels",
    Kind.RELEASE: "release",
    Kind.ACTIVATION: "activation",
    Kind.GRADIENT: "gradient",
    Kind.LOGITS: "logits",
    Kind.SEGMENT: "segment",
    Kind.NORM: "gradient norm",
    Kind.METRICS: "metrics",
    Kind.CONTROL: "control message",
    Kind.PROOF: "proof",
}
