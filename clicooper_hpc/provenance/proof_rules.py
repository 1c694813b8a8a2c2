"""What the statements of a stage must say, given what else is known: one set of rules for all.

Pure functions. The owner issues tickets and the trainer signs proofs filled from them; a trainer
compares its neighbour's proof, the owner whatever it takes into the ledger, `verification` what it
finds there. A party leaves out what it cannot know, and a rule about that is then not applied.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from clicooper_hpc.digests import Digest, digest_chunks
from clicooper_hpc.provenance.ledger_order import EntryId, ledger_entry_before
from clicooper_hpc.provenance.marks.mark_plan import LEAST_STATISTIC
from clicooper_hpc.provenance.statement_fields import MarkPlanClaim
from clicooper_hpc.provenance.statements import (
    Handoff,
    Predicate,
    RunStatement,
    StageProof,
    Ticket,
    TreeHead,
)

__all__ = [
    "MARKS_DEMANDED",
    "Difference",
    "DigestOf",
    "ProofPart",
    "StageFacts",
    "enrolled_mark_problems",
    "expected_proof",
    "expected_ticket",
    "handoff_problems",
    "mark_chain",
    "mark_chain_of",
    "mark_problems",
    "proof_differences",
    "proof_state_before",
    "ticket_differences",
]

_DIGEST_BYTES: Final = 32
#: What a job's ``provenance.marks`` demands of every segment; other words leave it open.
MARKS_DEMANDED: Final[Mapping[str, bool]] = {"required": True, "off": False}
#: exp(-T**2 / 2) = 2**-64: a mark read back with less than this could be chance (Hoeffding).
_LEAST_READING: Final = 9.42

DigestOf: TypeAlias = Callable[[EntryId], bytes]
"""Envelope digest (32 bytes) of an entry, as a copy of the ledger has it."""

ProofPart = Literal["work", "time", "neighbours"]

#: Fields of a proof in the order they are compared: what they are called, and their part.
_PROOF: Final[Mapping[str, tuple[str, ProofPart]]] = {
    "run_id": ("the run id", "work"),
    "segment": ("the segment", "work"),
    "stage": ("the stage", "work"),
    "start": ("the start of the run", "work"),
    "ticket": ("the ticket", "work"),
    "steps": ("the number of steps", "work"),
    "samples": ("the number of samples", "work"),
    "previous": ("the proof before it", "time"),
    "weights_in": ("the weights at start", "time"),
    "optimizer_in": ("the optimizer at start", "time"),
    "upstream": ("the proof upstream", "neighbours"),
    "handoff_in": ("the hand-off in", "neighbours"),
    "handoff_out": ("the hand-off out", "neighbours"),
}
_TICKET: Final[Mapping[str, str]] = {
    "run_id": "the run id",
    "segment": "the segment",
    "stage": "the stage",
    "first_step": "the first step",
    "last_step": "the last step",
    "job_digest": "the job's digest",
    "data_order": "the order of the data",
    "samples": "the number of samples",
    "ledger": "the ledger before it",
}


@dataclass(frozen=True, slots=True)
class Difference:
    """A field that is not what it must be. ``words`` name it in messages."""

    field: str
    words: str
    found: object
    wanted: object


@dataclass(frozen=True, slots=True, kw_only=True)
class StageFacts:
    """What a party knows of one stage of one segment, besides the ledger before the stage.

    All are 64 hex digits, and None where this party does not know.

    Parameters
    ----------
    entering, leaving
        Payload digests of the hand-offs before and behind the segment. Nothing leaves the last.
    proof_before
        Envelope digest of this stage's proof of the segment before; segment 1 has none.
    start_weights, start_optimizer
        Tensor roots of the state the stage starts from, see `proof_state_before`.
    run_start
        The start of the run that is under way. Of one that is over no ledger knows it.
    """

    entering: str | None = None
    leaving: str | None = None
    proof_before: str | None = None
    start_weights: str | None = None
    start_optimizer: str | None = None
    run_start: str | None = None


def expected_ticket(
    run: RunStatement,
    stage: int,
    segment: int,
    *,
    data_order: str,
    samples: int,
    ledger: TreeHead | None,
) -> dict[str, object]:
    """Return what the ticket of ``segment`` in ``stage`` must say; its nonce alone is free.

    Parameters
    ----------
    run
        The owner's statement of the run.
    data_order, samples
        Digest of the stage's data order (hex) and number of its samples, as the run plan has them.
    ledger
        The tree before the stage's tickets; None if unknown.
    """
    first, last = run.stage_bounds[stage : stage + 2]
    expected: dict[str, object] = {
        "run_id": run.run_id,
        "segment": segment,
        "stage": stage,
        "first_step": first,
        "last_step": last,
        "data_order": data_order,
        "samples": samples,
        "job_digest": run.job_digest,
    }
    return expected if ledger is None else {**expected, "ledger": ledger}


def expected_proof(
    run: RunStatement, ticket: Ticket, facts: StageFacts, digest_of: DigestOf
) -> dict[str, object]:
    """Return what the proof that answers ``ticket`` must say, as far as ``facts`` go.

    Parameters
    ----------
    run
        The owner's statement of the run.
    ticket
        The entry of the ledger for this segment and stage.
    facts
        What this party knows besides.
    digest_of
        Looks up entries before the stage's hand-offs.

    Returns
    -------
    dict
        Field of `StageProof` to value. What the trainer alone can say (the state it ends with, its
        mark, tables, environment and times) is left out, and so is what ``facts`` leave open.
    """
    stage, segment = ticket.stage, ticket.segment
    first, last = run.stage_bounds[stage : stage + 2]
    known: dict[str, object] = {
        "start": facts.run_start,
        "ticket": digest_of(EntryId("ticket", stage, segment)).hex(),
        # One proof has one successor: a stage cannot be proved twice or left out.
        "previous": digest_of(ledger_entry_before(stage, segment)).hex(),
        # Segment 1 has no proof upstream: it builds on what the owner released to it.
        "upstream": facts.entering if segment == 1 else facts.proof_before,
        "handoff_in": facts.entering,
        "handoff_out": facts.leaving,
        "weights_in": facts.start_weights,
        "optimizer_in": facts.start_optimizer,
    }
    expected: dict[str, object] = {
        "run_id": run.run_id,
        "segment": segment,
        "stage": stage,
        "steps": last - first,
        # The owner's signed figure: a chain of trainers may agree on another one.
        "samples": ticket.samples,
        **{name: value for name, value in known.items() if value is not None},
    }
    if segment == run.segments:
        # Absent is what it must be here; for other segments None means unknown.
        expected["handoff_out"] = None
    return expected


def proof_differences(
    proof: StageProof, expected: Mapping[str, object], part: ProofPart | None = None
) -> list[Difference]:
    """Return how ``proof`` departs from `expected_proof`, in all parts or in one of them.

    Parts are the ``work`` that was ordered, the chain in ``time``, and the links to ``neighbours``.
    """
    words = {name: text for name, (text, of) in _PROOF.items() if part in (None, of)}
    return _statement_differences(proof, expected, words)


def ticket_differences(ticket: Ticket, expected: Mapping[str, object]) -> list[Difference]:
    """Return how ``ticket`` departs from `expected_ticket`."""
    return _statement_differences(ticket, expected, _TICKET)


def proof_state_before(run: RunStatement, segment: int, last: Predicate) -> tuple[str, str | None]:
    """Return the roots (hex) of weights and optimizer that a stage of ``segment`` starts from.

    ``last`` is the statement behind `ledger_entry_before`. Before stage 0 the weights are those of
    the run statement; the optimizer is then the trainer's word, which only the audit checks.
    """
    if isinstance(last, StageProof):
        return last.weights_out, last.optimizer_out
    return run.initial_weights[segment - 1], None


def enrolled_mark_problems(mark: MarkPlanClaim | None, *, required: bool | None) -> Iterator[str]:
    """Yield what is wrong with the mark that an enrolment names.

    ``required``: whether the job asks for marks in all segments; None if it leaves that open.

    Raises
    ------
    EvidenceError
        The plan is none that could be carried out.
    """
    if required is not None and (mark is not None) != required:
        yield "it names no mark" if required else "it names a mark"
    # A weak plan is a mark that proves nothing, however well it reads.
    if mark is not None and (least := mark.plan().least_statistic) < LEAST_STATISTIC:
        yield f"its mark is planned to read {least:.2f}, below {LEAST_STATISTIC}"


def mark_problems(
    proof: StageProof,
    enrolled: MarkPlanClaim | None,
    digest_of: DigestOf,
    *,
    weights: str,
    public_key: bytes,
) -> Iterator[str]:
    """Yield what is wrong with the mark that a proof claims.

    Parameters
    ----------
    enrolled
        The mark that the trainer enrolled with.
    digest_of, weights, public_key
        See `mark_chain_of`.
    """
    # Decided at enrolment: a trainer cannot leave out the mark of a stage it made up.
    if (proof.mark is None) != (enrolled is None):
        yield "it has no mark" if proof.mark is None else "it claims a mark never enrolled"
    if proof.mark is None:
        return
    chain = mark_chain_of(
        digest_of, proof.stage, proof.segment, weights=weights, public_key=public_key
    ).hex
    if proof.mark.chain != chain:
        yield f"the chain value is {proof.mark.chain[:16]}..., must be {chain[:16]}..."
    if proof.mark.leaf_index != proof.stage:
        yield f"the index of the mark key is {proof.mark.leaf_index}, must be {proof.stage}"
    statistic = float(proof.mark.statistic)
    if statistic < _LEAST_READING:
        yield f"its mark reads {statistic:.2f}, below {_LEAST_READING}"
    # Embedding is exact: a wrong bit right after it means other weights were read.
    if proof.mark.errors:
        yield f"its mark was read with {proof.mark.errors} wrong bits"


def handoff_problems(run: RunStatement, handoff: Handoff) -> Iterator[str]:
    """Yield what is wrong with the messages that a hand-off speaks of."""
    among_trainers = handoff.boundary > 0
    # Later on trainer 1 may have everything in its cache.
    if not handoff.forward.messages and (among_trainers or handoff.stage == 0):
        yield "nothing went forward"
    back = handoff.backward.messages
    if back and not among_trainers:
        yield f"{back} messages went back to the owner"
    elif among_trainers and bool(back) != (run.coupling == "backprop"):
        yield f"{back} messages went back in a {run.coupling} run"


def mark_chain_of(
    digest_of: DigestOf, stage: int, segment: int, *, weights: str, public_key: bytes
) -> Digest:
    """Return the chain value that the mark of ``segment`` in ``stage`` is keyed with.

    Parameters
    ----------
    digest_of
        Looks up entries before the stage's hand-offs.
    weights
        Tensor root (hex) of the segment's weights before the stage.
    public_key
        The trainer's raw public key.
    """
    return mark_chain(
        ticket=digest_of(EntryId("ticket", stage, segment)),
        previous=digest_of(ledger_entry_before(stage, segment)),
        neighbour=digest_of(ledger_entry_before(stage, segment - 1)),
        weights_in=bytes.fromhex(weights),
        public_key=public_key,
    )


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
        Envelope digest of the stage's ticket for this segment. Its nonce is the owner's, so that a
        trainer cannot search for a secret that fits given weights.
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
    # Parts are joined without lengths: only because all are equally long is the split unique.
    if any(len(part) != _DIGEST_BYTES for part in parts):
        raise ValueError(f"every part of a chain value has {_DIGEST_BYTES} bytes")
    return digest_chunks("clicooper/v1/mark-chain", parts)


def _statement_differences(
    statement: Predicate, expected: Mapping[str, object], words: Mapping[str, str]
) -> list[Difference]:
    return [
        Difference(name, text, getattr(statement, name), expected[name])
        for name, text in words.items()
        # What a party cannot know is missing in `expected`, not None: None is a value.
        if name in expected and getattr(statement, name) != expected[name]
    ]
