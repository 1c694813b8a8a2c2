"""What owner and trainers sign: in-toto Statements v1 with six strict predicates.

A statement is canonical JSON ``{"_type", "predicate", "predicateType", "subject"}``; its subject
follows from its predicate, so a statement says nothing twice and nothing differently. Build a
predicate, call ``statement_bytes()``, sign the bytes; `parse_statement` takes them back and accepts
nothing that ``statement_bytes()`` does not write.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from itertools import pairwise
from typing import ClassVar, Final, Literal, Self, TypeVar

from pydantic import ValidationError, model_validator

from clicooper_hpc.digests import Digest, digest_bytes
from clicooper_hpc.errors import EvidenceError, UsageError
from clicooper_hpc.provenance.canonical_json import (
    MAX_BYTES,
    Json,
    encode_canonical_json,
    parse_canonical_json,
)
from clicooper_hpc.provenance.envelope import (
    Envelope,
    parse_envelope,
    require_envelope_signatures,
)
from clicooper_hpc.provenance.identity import PublicIdentity
from clicooper_hpc.provenance.statement_fields import (
    Count,
    DeliveredSegment,
    Flow,
    Hex32,
    Interval,
    MarkClaim,
    MarkPlanClaim,
    Name,
    Result,
    RunId,
    SegmentNumber,
    StageNumber,
    StrictModel,
    Text,
    Timestamp,
    TreeHead,
)

__all__ = [
    "STATEMENT_TYPE",
    "DeliveredSegment",
    "DeliveryStatement",
    "Enrolment",
    "Flow",
    "Handoff",
    "Interval",
    "MarkClaim",
    "MarkPlanClaim",
    "Predicate",
    "RunStatement",
    "StageProof",
    "StatementKind",
    "Ticket",
    "TreeHead",
    "parse_signed_statement",
    "parse_statement",
    "statement_environment_digest",
]


STATEMENT_TYPE: Final = "https://in-toto.io/Statement/v1"

StatementKind = Literal["run", "enrolment", "ticket", "handoff", "stage", "delivery"]


class Predicate(StrictModel, ABC):
    """One kind of statement."""

    kind: ClassVar[StatementKind]
    #: Raised when the fields of this kind change: a reader of an older form must not guess.
    version: ClassVar[int] = 1
    run_id: RunId

    @classmethod
    def predicate_type(cls) -> str:
        """URI that names kind and version."""
        return f"urn:clicooper:{cls.kind}:v{cls.version}"

    @abstractmethod
    def subject(self) -> dict[str, str]:
        """Return what the statement is about: name to 64 hex digits, at least one."""

    def statement_value(self) -> Json:
        """Return the whole statement as a JSON value."""
        subject: list[Json] = [
            {"digest": {"sha256": digest}, "name": name} for name, digest in self.subject().items()
        ]
        return {
            "_type": STATEMENT_TYPE,
            "predicate": self.model_dump(mode="json", exclude_none=True),
            "predicateType": self.predicate_type(),
            "subject": subject,
        }

    def statement_bytes(self) -> bytes:
        """Return the payload to sign.

        Raises
        ------
        UsageError
            It is longer than a payload may be (too many stages, segments or tensor names).
        """
        payload = encode_canonical_json(self.statement_value())
        # Said while signing: readers would refuse the statement, and a run would be lost.
        if len(payload) > MAX_BYTES:
            raise UsageError(
                f"the {self.kind} statement has {len(payload)} bytes; "
                f"at most {MAX_BYTES} are allowed",
                remedy="Use fewer training stages (provenance) or fewer segments.",
            )
        return payload


def statement_environment_digest(environment: Mapping[str, str]) -> Digest:
    """Digest of an environment (versions, host, device), as stage proofs state it."""
    return digest_bytes("clicooper/v1/environment", encode_canonical_json(dict(environment)))


class RunStatement(Predicate):
    """Owner: what will be trained, by whom, in which stages.

    ``trainers`` are raw public keys in segment order; ``cuts`` the first layers of segments;
    ``stage_bounds`` S + 1 steps from 0 to ``total_steps``; ``initial_weights`` tensor roots.
    """

    kind: ClassVar[StatementKind] = "run"
    # The owner's clock, for people: the ledger orders, no clock does.
    created: Timestamp
    creator_version: Text
    job_digest: Hex32
    card_digest: Hex32
    owner: Hex32
    trainers: tuple[Hex32, ...]
    cuts: tuple[Count, ...]
    total_steps: Count
    stage_bounds: tuple[Count, ...]
    coupling: Literal["backprop", "one-way"]
    # Fixed before the first ticket: stage 0 has a predecessor like any other stage.
    initial_weights: tuple[Hex32, ...]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        bounds = self.stage_bounds
        if not self.trainers or len(self.trainers) != len(self.initial_weights):
            raise ValueError("there must be one trainer and one initial root per segment")
        # A key used twice would let one party sign both ends of a boundary.
        if len({self.owner, *self.trainers}) != 1 + len(self.trainers):
            raise ValueError("owner and trainers must have keys of their own; one is used twice")
        if len(bounds) < 2 or bounds[0] != 0 or bounds[-1] != self.total_steps:
            raise ValueError("the stages do not go from step 0 to the last step")
        # Without a step there would be a proof of nothing.
        if any(last <= first for first, last in pairwise(bounds)):
            raise ValueError("a stage has no steps")
        if any(right <= left for left, right in pairwise(self.cuts)):
            raise ValueError("the cuts do not ascend")
        return self

    @property
    def segments(self) -> int:
        """Number of segments, which is the number of trainers."""
        return len(self.trainers)

    @property
    def stages(self) -> int:
        """Number of training stages."""
        return len(self.stage_bounds) - 1

    def subject(self) -> dict[str, str]:
        """Return job and privacy card."""
        return {"job": self.job_digest, "privacy-card": self.card_digest}


class Enrolment(Predicate):
    """Trainer: takes ``segment`` in the run of statement ``run`` (envelope digest).

    ``mark`` is absent when the run marks nothing.
    """

    kind: ClassVar[StatementKind] = "enrolment"
    run: Hex32
    segment: SegmentNumber
    mark: MarkPlanClaim | None = None
    # What an audit must find again to repeat the run to the bit.
    environment: dict[Name, Text]

    def subject(self) -> dict[str, str]:
        """Return the run statement, as an envelope digest."""
        return {"run": self.run}


class Ticket(Predicate):
    """Owner: the order to train ``segment`` from ``first_step`` to before ``last_step``.

    ``data_order`` digests which samples come in which step, ``samples`` counts them (averaged ones
    one by one); ``ledger`` is the tree before the stage's tickets.
    """

    kind: ClassVar[StatementKind] = "ticket"
    version: ClassVar[int] = 2
    segment: SegmentNumber
    stage: StageNumber
    first_step: Count
    last_step: Count
    # Fresh: no trainer can know a chain value before its stage and fit a secret to it.
    nonce: Hex32
    data_order: Hex32
    # Signed by the owner: without it a verifier had only the trainers' own word for their samples.
    samples: Count
    job_digest: Hex32
    ledger: TreeHead

    def subject(self) -> dict[str, str]:
        """Return the order of the data."""
        return {"data-order": self.data_order}


class Handoff(Predicate):
    """Both ends of ``boundary`` (between ranks b and b + 1; 0 is the owner's): what went over."""

    kind: ClassVar[StatementKind] = "handoff"
    stage: StageNumber
    boundary: StageNumber
    forward: Flow
    backward: Flow

    def subject(self) -> dict[str, str]:
        """Return the messages of both directions."""
        return {"forward": self.forward.root, "backward": self.backward.root}


class StageProof(Predicate):
    """Trainer: what it did to its segment in one stage, and on whose word.

    Parameters
    ----------
    start
        The same of all ranks from one start of the run to its end or kill. An honest trainer signs
        one proof of a stage in a start; after a kill it may have to sign the stage again.
    ticket, previous, upstream
        Envelope digests: ticket; own proof of the stage before (enrolment in stage 0); proof of
        segment - 1 in this stage (for segment 1 the payload digest of hand-off 0).
    handoff_in, handoff_out
        Payload digests; ``handoff_out`` is absent for the last segment.
    weights_in, weights_out, optimizer_in, optimizer_out
        Tensor roots.
    tables
        Digest of this rank's metric rows of the stage.
    environment
        `statement_environment_digest` of what it ran on.
    """

    kind: ClassVar[StatementKind] = "stage"
    version: ClassVar[int] = 2
    segment: SegmentNumber
    stage: StageNumber
    # Two proofs of one stage contradict each other only within a start.
    start: Hex32
    ticket: Hex32
    previous: Hex32
    upstream: Hex32
    handoff_in: Hex32
    handoff_out: Hex32 | None = None
    # Both, or a replay could not start where the stage did.
    weights_in: Hex32
    weights_out: Hex32
    optimizer_in: Hex32
    optimizer_out: Hex32
    steps: Count
    samples: Count
    mark: MarkClaim | None = None
    tables: Hex32
    # A requeued job may go on elsewhere: an audit needs to know where each stage ran.
    environment: Hex32
    time: Interval

    def subject(self) -> dict[str, str]:
        """Return the segment after the stage."""
        return {f"segment/{self.segment}": self.weights_out}


class DeliveryStatement(Predicate):
    """Owner: the segments it received and what the composed model achieves.

    ``tables`` digests the owner's own metric rows; ``ledger`` is the tree before this entry.
    """

    kind: ClassVar[StatementKind] = "delivery"
    segments: tuple[DeliveredSegment, ...]
    results: dict[Name, Result]
    tables: Hex32
    ledger: TreeHead

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if [one.segment for one in self.segments] != list(range(1, len(self.segments) + 1)):
            raise ValueError("the segments are not 1, 2, ... in order")
        return self

    def subject(self) -> dict[str, str]:
        """Return all delivered segments."""
        return {f"segment/{one.segment}": one.weights for one in self.segments}


_KINDS: Final[Mapping[str, type[Predicate]]] = {
    kind.predicate_type(): kind
    for kind in (RunStatement, Enrolment, Ticket, Handoff, StageProof, DeliveryStatement)
}


_P = TypeVar("_P", bound=Predicate)


def parse_signed_statement(
    content: bytes, kind: type[_P], key: PublicIdentity, *, where: str
) -> tuple[Envelope, _P]:
    """Read an envelope that ``key`` alone must have signed, around a statement of ``kind``.

    Raises
    ------
    EvidenceError
        Another signer, another kind, or as `parse_envelope` and `parse_statement` say.
    """
    envelope = parse_envelope(content, where=where)
    # Before the payload is looked at: what nobody signed for is nobody's mistake.
    require_envelope_signatures(envelope, [key], where=where)
    statement = parse_statement(envelope.payload, where=where)
    if not isinstance(statement, kind):
        raise EvidenceError(f"is no {kind.kind} statement", where=where)
    return envelope, statement


def parse_statement(payload: bytes, *, where: str | None = None) -> Predicate:
    """Read a payload that ``statement_bytes()`` of one of the predicates wrote.

    Raises
    ------
    EvidenceError
        It is not canonical JSON, of an unknown kind, or breaks a rule of its kind.
    """
    value = parse_canonical_json(payload, where=where)
    if not isinstance(value, dict):
        raise _damaged_statement("the statement is not an object", where)
    named = value.get("predicateType")
    # Other versions land here too: their fields may mean something else.
    if not isinstance(named, str) or named not in _KINDS:
        raise EvidenceError(
            "the statement is of no kind known here",
            where=where,
            remedy="If another version of clicooper began the run, go on with that one; otherwise "
            "get an unchanged copy from its author.",
        )
    kind = _KINDS[named]
    try:
        # From JSON, so that arrays become tuples although nothing else is converted.
        predicate = kind.model_validate_json(json.dumps(value.get("predicate")))
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"] if str(part).isidentifier())
        at = f"{kind.kind} statement" + (f", {place}" if place else "")
        raise _damaged_statement(f"{at}: {first['msg']}", where) from error
    # Subject and type follow from the predicate: nobody may state them otherwise.
    if predicate.statement_value() != value:
        raise _damaged_statement(f"the {kind.kind} statement names another subject or type", where)
    return predicate


def _damaged_statement(what: str, where: str | None) -> EvidenceError:
    return EvidenceError(what, where=where, remedy="Get an unchanged copy from its author.")
