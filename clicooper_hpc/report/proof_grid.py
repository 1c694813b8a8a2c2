"""The proofs of a run as a grid of segments and stages, and how strong the marks claim to be."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from clicooper_hpc.errors import EvidenceError
from clicooper_hpc.provenance.envelope import parse_envelope
from clicooper_hpc.provenance.statements import (
    Predicate,
    RunStatement,
    StageProof,
    parse_statement,
)
from clicooper_hpc.report.numbers import finite_number, number_text
from clicooper_hpc.report.run_reading import RunReading

__all__ = ["ProofCell", "ProofGrid", "read_proof_grid"]

#: Segments and stages that are shown; a page of all of a large run's cells could not be read.
_MOST_ROWS: Final = 64
_MOST_COLUMNS: Final = 128
_WHOLE, _PART, _NONE = "whole", "part", "none"
_SIGNS: Final = {_WHOLE: "●", _PART: "◐", _NONE: "○"}


@dataclass(frozen=True, slots=True)
class ProofCell:
    """What the ledger holds of one segment in one stage: ``whole``, ``part`` or ``none``.

    ``words`` says what is there and what is not.
    """

    state: str
    sign: str
    words: str


@dataclass(frozen=True, slots=True)
class ProofGrid:
    """The chain of proofs.

    Attributes
    ----------
    stages
        Headings of the stages that are shown, counted from 1.
    rows
        Segment, its cells (enrolment, stages, delivery), and its mark in words.
    sentence
        How many proofs are there, of how many; what is not shown.
    """

    stages: Sequence[int]
    rows: Sequence[tuple[int, Sequence[ProofCell], str]]
    sentence: str


def read_proof_grid(reading: RunReading) -> ProofGrid | None:
    """Return the grid of the owner's ledger; None if there is none, or nothing in it."""
    frame = reading.table("ledger", 0)
    if frame is None or frame.empty:
        return None
    there = set(
        zip(
            frame["kind"].astype(str),
            frame["segment"].astype(int),
            frame["stage"].astype(int),
            strict=True,
        )
    )
    statements = [_statement(str(envelope)) for envelope in frame["envelope"]]
    planned = next((one for one in statements if isinstance(one, RunStatement)), None)
    segments = planned.segments if planned else len(reading.run.ranks) - 1
    stages = planned.stages if planned else max(stage for _, _, stage in there) + 1
    proofs = {(one.segment, one.stage): one for one in statements if isinstance(one, StageProof)}
    # As far as numbers can be trusted: a stranger's run statement may plan any number of them.
    shown_stages, shown = range(min(stages, _MOST_COLUMNS)), range(1, min(segments, _MOST_ROWS) + 1)
    rows = [
        (
            segment,
            [
                _cell({"enrolment": ("enrolment", segment, -1) in there}),
                *(
                    _cell(
                        {
                            "order": ("ticket", segment, stage) in there,
                            "hand-off of its input": ("handoff", segment - 1, stage) in there,
                            "proof": ("stage", segment, stage) in there,
                        }
                    )
                    for stage in shown_stages
                ),
                _cell({"delivery": ("delivery", -1, -1) in there}),
            ],
            _mark_words(proofs, segment),
        )
        for segment in shown
    ]
    return ProofGrid(
        stages=[stage + 1 for stage in shown_stages],
        rows=rows,
        sentence=_sentence(there, segments, stages),
    )


def _statement(envelope: str) -> Predicate | None:
    try:
        return parse_statement(parse_envelope(envelope.encode("utf-8")).payload)
    # The checks say what is wrong with it.
    except EvidenceError:
        return None


def _cell(parts: Mapping[str, bool]) -> ProofCell:
    have = [name for name, found in parts.items() if found]
    lack = [name for name, found in parts.items() if not found]
    state = _NONE if not have else _PART if lack else _WHOLE
    words = "; ".join(
        [
            *([f"there: {', '.join(have)}"] if have else []),
            *([f"missing: {', '.join(lack)}"] if lack else []),
        ]
    )
    return ProofCell(state, _SIGNS[state], words)


def _sentence(there: set[tuple[str, int, int]], segments: int, stages: int) -> str:
    proofs = sum(kind == "stage" for kind, _, _ in there)
    handoffs = sum(kind == "handoff" for kind, _, _ in there)
    delivered = any(kind == "delivery" for kind, _, _ in there)
    text = (
        f"{proofs} of {segments * stages} proofs, {handoffs} of {segments * stages} hand-offs, "
        f"{'and the delivery' if delivered else 'no delivery'}."
    )
    if segments > _MOST_ROWS or stages > _MOST_COLUMNS:
        text += (
            f" Shown are the first {min(segments, _MOST_ROWS)} of {segments} segments and the "
            f"first {min(stages, _MOST_COLUMNS)} of {stages} stages."
        )
    return text


def _mark_words(proofs: Mapping[tuple[int, int], StageProof], segment: int) -> str:
    claims = [proof.mark for (of, _), proof in proofs.items() if of == segment and proof.mark]
    if not claims:
        return "no mark"
    weakest = min(finite_number(claim.statistic) or 0.0 for claim in claims)
    wrong = max(claim.errors for claim in claims)
    # P(T >= t) <= exp(-t^2 / 2) for weights that carry no mark: see docs/provenance.md.
    bits = weakest**2 / 2 / math.log(2)
    return f"T {number_text(weakest)}, by chance below 2^-{bits:.0f}, {wrong} bits wrong"
