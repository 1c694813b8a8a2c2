"""A whole honest ledger without training anything, and the means to lie in it with all keys.

Digests that would come from tensors, messages and rows are digests of their names. `Forge.alter`
changes a predicate just before it is signed: whatever comes later refers to the changed statement,
so the ledger stays as consistent as a liar with these keys could make it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from clicooper_hpc.digests import digest_bytes
from clicooper_hpc.provenance.envelope import Envelope, countersign_envelope, sign_envelope
from clicooper_hpc.provenance.identity import Identity
from clicooper_hpc.provenance.ledger_order import EntryId, LedgerOrder
from clicooper_hpc.provenance.marks.mark_keys import mark_key_root
from clicooper_hpc.provenance.marks.mark_plan import MarkPlan
from clicooper_hpc.provenance.merkle import MerkleTree, merkle_root
from clicooper_hpc.provenance.proof_rules import mark_chain
from clicooper_hpc.provenance.statement_fields import (
    DeliveredSegment,
    Flow,
    Interval,
    MarkClaim,
    MarkPlanClaim,
    TreeHead,
)
from clicooper_hpc.provenance.statements import (
    DeliveryStatement,
    Enrolment,
    Handoff,
    Predicate,
    RunStatement,
    StageProof,
    Ticket,
    statement_environment_digest,
)
from clicooper_hpc.provenance.tree_checkpoint import (
    OWNER_NAME,
    SignedCheckpoint,
    TreeCheckpoint,
    checkpoint_origin,
    checkpoint_signer,
)
from clicooper_hpc.training.learning_rate import LearningRateSchedule
from clicooper_hpc.training.run_plan import RunPlan
from clicooper_hpc.verification.evidence import JOB_TAG, Evidence

RUN_ID = "00112233445566778899aabbccddeeff"
JOB_TEXT = '{"training":{"epochs":2}}'
ENVIRONMENT = {"torch": "2.9.0", "device": "cpu"}
NOTHING = Flow(messages=0, bytes=0, root=merkle_root([]).hex())
STEPS = 10
SAMPLES = STEPS * 128
#: The start of the run in which everything is signed.
START = hashlib.sha256(b"start").hexdigest()

Alter = Callable[[Predicate], Predicate]


def h(*parts: object) -> str:
    """Return a digest (64 hex digits) that stands for the thing so named."""
    return hashlib.sha256("/".join(map(str, parts)).encode()).hexdigest()


def owner_and_trainers(count: int) -> tuple[Identity, list[Identity]]:
    """Return fresh identities."""
    return Identity.generate(), [Identity.generate() for _ in range(count)]


def changed(**values: object) -> Alter:
    """Return an alteration that sets these fields, valid or not."""
    return lambda predicate: predicate.model_copy(update=values)


@dataclass
class Forge:
    """Settings of a ledger.

    Attributes
    ----------
    alter
        Place to what is done to the predicate there before it is signed.
    sign_as
        Place to the ranks that sign there instead of the right ones; -1 is a stranger.
    plans
        Segment to its mark plan; None for the usual one.
    """

    segments: int = 3
    stages: int = 2
    coupling: Literal["backprop", "one-way"] = "backprop"
    marks: bool = True
    run_id: str = RUN_ID
    identities: tuple[Identity, list[Identity]] | None = None
    alter: Mapping[EntryId, Alter] = field(default_factory=dict)
    sign_as: Mapping[EntryId, Sequence[int]] = field(default_factory=dict)
    plans: Mapping[int, MarkPlan] = field(default_factory=dict)
    weights: Callable[[int, int], str] = lambda segment, stage: h("weights", segment, stage)

    def __post_init__(self) -> None:
        if self.identities is None:
            self.identities = owner_and_trainers(self.segments)
        self.owner, self.trainers = self.identities
        self.stranger = Identity.generate()
        self.order = LedgerOrder(self.segments, self.stages)
        self.masters = [hashlib.sha256(f"mark {i}".encode()).digest() for i in range(self.segments)]

    def identity(self, rank: int) -> Identity:
        """Return the identity of a rank; -1 is a stranger."""
        if rank < 0:
            return self.stranger
        return self.trainers[rank - 1] if rank else self.owner

    def build(self) -> Evidence:
        """Return the evidence of the whole run."""
        self.tree = MerkleTree()
        self.entries: list[bytes] = []
        self.envelopes: dict[EntryId, Envelope] = {}
        self.signed: dict[EntryId, Predicate] = {}
        self.notes: list[str] = []
        #: Notes of the owner as trainers saw them: before anybody cosigned.
        self.seen_notes: list[str] = []
        self.heads: dict[int, list[tuple[int, str]]] = {i + 1: [] for i in range(self.segments)}
        self._add(EntryId("run"), self._run(), 0)
        for segment in range(1, self.segments + 1):
            self._add(EntryId("enrolment", 0, segment), self._enrolment(segment), segment)
        self._checkpoint()
        for stage in range(self.stages):
            head = self._head()
            for segment in range(1, self.segments + 1):
                self._add(EntryId("ticket", stage, segment), self._ticket(stage, segment, head), 0)
            for boundary in range(self.segments):
                handoff = self._handoff(stage, boundary)
                self._add(EntryId("handoff", stage, boundary), handoff, boundary, boundary + 1)
            for segment in range(1, self.segments + 1):
                self._add(EntryId("stage", stage, segment), self._proof(stage, segment), segment)
            self._checkpoint()
        self._add(EntryId("delivery"), self._delivery(), 0)
        self._checkpoint(cosigned=True)
        last = self.stages - 1
        places = [(s, i) for s in range(self.stages) for i in range(1, self.segments + 1)]
        return Evidence(
            entries=tuple(self.entries),
            checkpoints=tuple(self.notes),
            status="complete",
            run_id=self.run_id,
            job_text=JOB_TEXT,
            job_digest=digest_bytes(JOB_TAG, JOB_TEXT.encode()).hex,
            card_digest=h("card"),
            marks=self.marks,
            segments=tuple(self.weights(i, last) for i in range(1, self.segments + 1)),
            checkpoint_roots={(s, i): (self.weights(i, s), h("adam", i, s)) for s, i in places},
            tables={(i, s): h("rows", i, s) for s, i in places} | {(0, self.stages): h("rows", 0)},
            trainer_heads=self.heads,
            messages=self._messages(),
            outlines={"run.h5": (), "rank-000.h5": ()},
            trainer_notes={i + 1: tuple(self.seen_notes) for i in range(self.segments)},
            owner_key=self.owner.public,
            trainer_keys=[one.public for one in self.trainers],
            allowed_keys={one.public for one in self.trainers},
        )

    def _messages(self) -> dict[int, dict[tuple[int, str], tuple[int, str]]]:
        """Return what the trainers' tables say of the messages they sent and received."""
        found: dict[int, dict[tuple[int, str], tuple[int, str]]] = {
            rank: {} for rank in range(1, self.segments + 1)
        }
        for stage in range(self.stages):
            for boundary in range(self.segments):
                handoff = self.signed[EntryId("handoff", stage, boundary)]
                assert isinstance(handoff, Handoff)
                for rank, channel, flow in (
                    (boundary, "forward_out", handoff.forward),
                    (boundary, "backward_in", handoff.backward),
                    (boundary + 1, "forward_in", handoff.forward),
                    (boundary + 1, "backward_out", handoff.backward),
                ):
                    # Of no messages there are no rows; the owner keeps no such table.
                    if rank and flow.messages:
                        found[rank][stage, channel] = (flow.messages, flow.root)
        return found

    def digest(self, kind: Literal["run", "enrolment", "ticket", "stage"], *at: int) -> str:
        """Return the envelope digest of an entry that is there already."""
        return self.envelopes[EntryId(kind, *at)].digest().hex

    def _add(self, place: EntryId, predicate: Predicate, *ranks: int) -> None:
        altered = self.alter[place](predicate) if place in self.alter else predicate
        first, *others = (self.identity(rank) for rank in self.sign_as.get(place, ranks))
        envelope = sign_envelope(altered.statement_bytes(), first)
        for other in others:
            envelope = countersign_envelope(envelope, other)
        self.envelopes[place] = envelope
        self.signed[place] = altered
        self.entries.append(envelope.to_bytes())
        self.tree.append(self.entries[-1])

    def _head(self) -> TreeHead:
        return TreeHead(size=self.tree.size, root=self.tree.root().hex())

    def _checkpoint(self, *, cosigned: bool = False) -> None:
        self.notes.append(note_of(self, self.tree, cosigned=cosigned))
        self.seen_notes.append(note_of(self, self.tree, cosigned=False))
        for seen in self.heads.values():
            seen.append((self.tree.size, self.tree.root().hex()))

    def _run(self) -> RunStatement:
        return RunStatement(
            run_id=self.run_id,
            created="2026-01-02T03:04:05+00:00",
            creator_version="0.1.0",
            job_digest=digest_bytes(JOB_TAG, JOB_TEXT.encode()).hex,
            card_digest=h("card"),
            owner=self.owner.public.raw.hex(),
            trainers=tuple(one.public.raw.hex() for one in self.trainers),
            cuts=tuple(range(0, 2 * self.segments, 2)),
            total_steps=STEPS * self.stages,
            stage_bounds=tuple(range(0, STEPS * self.stages + 1, STEPS)),
            coupling=self.coupling,
            initial_weights=tuple(self.weights(i, -1) for i in range(1, self.segments + 1)),
        )

    def _enrolment(self, segment: int) -> Enrolment:
        plan = self.plans.get(segment, MarkPlan(64, 256, 4.5, ("0.weight", "2.weight")))
        root = mark_key_root(self.run_id, segment, self.masters[segment - 1], self.stages)
        return Enrolment(
            run_id=self.run_id,
            run=self.digest("run"),
            segment=segment,
            mark=MarkPlanClaim.of(plan, root) if self.marks else None,
            environment=ENVIRONMENT,
        )

    def _ticket(self, stage: int, segment: int, head: TreeHead) -> Ticket:
        return Ticket(
            run_id=self.run_id,
            segment=segment,
            stage=stage,
            first_step=STEPS * stage,
            last_step=STEPS * (stage + 1),
            nonce=h("nonce", stage, segment),
            data_order=h("order", stage),
            samples=SAMPLES,
            job_digest=digest_bytes(JOB_TAG, JOB_TEXT.encode()).hex,
            ledger=head,
        )

    def _handoff(self, stage: int, boundary: int) -> Handoff:
        forward = Flow(messages=40, bytes=4000, root=h("forward", stage, boundary))
        backward = Flow(messages=40, bytes=4000, root=h("backward", stage, boundary))
        none_back = boundary == 0 or self.coupling == "one-way"
        return Handoff(
            run_id=self.run_id,
            stage=stage,
            boundary=boundary,
            # In later stages trainer 1 has everything in its cache.
            forward=NOTHING if boundary == 0 and stage else forward,
            backward=NOTHING if none_back else backward,
        )

    def first_handoff(self, stage: int) -> Handoff:
        """Return what the owner sent in a stage, as it was, whatever is signed of it."""
        return self._handoff(stage, 0)

    def chain(self, stage: int, segment: int) -> str:
        """Return the chain value of a mark, from what stands in the ledger before its stage."""
        run = self.digest("run")
        neighbour = run if segment == 1 else self._before(stage, segment - 1)
        return mark_chain(
            ticket=bytes.fromhex(self.digest("ticket", stage, segment)),
            previous=bytes.fromhex(self._before(stage, segment)),
            neighbour=bytes.fromhex(neighbour),
            weights_in=bytes.fromhex(self.weights(segment, stage - 1)),
            public_key=self.trainers[segment - 1].public.raw,
        ).hex

    def _before(self, stage: int, segment: int) -> str:
        if stage == 0:
            return self.digest("enrolment", 0, segment)
        return self.digest("stage", stage - 1, segment)

    def _proof(self, stage: int, segment: int) -> StageProof:
        entering = self.envelopes[EntryId("handoff", stage, segment - 1)].payload_digest().hex
        leaving = None
        if segment < self.segments:
            leaving = self.envelopes[EntryId("handoff", stage, segment)].payload_digest().hex
        upstream = entering if segment == 1 else self.digest("stage", stage, segment - 1)
        mark = MarkClaim(
            chain=self.chain(stage, segment), leaf_index=stage, errors=0, statistic="36.000000"
        )
        return StageProof(
            run_id=self.run_id,
            segment=segment,
            stage=stage,
            start=START,
            ticket=self.digest("ticket", stage, segment),
            previous=self._before(stage, segment),
            upstream=upstream,
            handoff_in=entering,
            handoff_out=leaving,
            weights_in=self.weights(segment, stage - 1),
            weights_out=self.weights(segment, stage),
            optimizer_in=h("adam", segment, stage - 1),
            optimizer_out=h("adam", segment, stage),
            steps=STEPS,
            samples=SAMPLES,
            mark=mark if self.marks else None,
            tables=h("rows", segment, stage),
            environment=statement_environment_digest(ENVIRONMENT).hex,
            time=Interval(start="2026-01-02T03:04:05Z", end="2026-01-02T03:05:05.25Z"),
        )

    def _delivery(self) -> DeliveryStatement:
        last = self.stages - 1
        return DeliveryStatement(
            run_id=self.run_id,
            segments=tuple(
                DeliveredSegment(segment=i, weights=self.weights(i, last))
                for i in range(1, self.segments + 1)
            ),
            results={"accuracy": "0.912000"},
            tables=h("rows", 0),
            ledger=self._head(),
        )


def plan_of(forge: Forge) -> RunPlan:
    """Return the run that ``forge`` states, as every rank would compute it: an epoch a stage."""
    return RunPlan(
        seed=1,
        epochs=forge.stages,
        batch_size=SAMPLES // STEPS,
        average_rows=1,
        sub_labels=np.arange(SAMPLES, dtype=np.int32) % 4,
        validation_rows=0,
        evaluate_every=0,
        cached=True,
        segments=forge.segments,
        micro_batches=4,
        schedule="1f1b",
        coupling=forge.coupling,
        rates=LearningRateSchedule(0.1),
        stages=forge.stages,
    )


def note_of(forge: Forge, tree: MerkleTree, *, cosigned: bool = False) -> str:
    """Return a checkpoint over ``tree`` as the owner of ``forge`` signs it."""
    checkpoint = TreeCheckpoint(checkpoint_origin(forge.run_id), tree.size, tree.root())
    note = SignedCheckpoint.sign(checkpoint, forge.owner, OWNER_NAME)
    if cosigned:
        for segment, identity in enumerate(forge.trainers, 1):
            note = note.cosign(identity, checkpoint_signer(segment))
    return note.to_text()


def resealed(forge: Forge, evidence: Evidence, entries: Sequence[bytes]) -> Evidence:
    """Return evidence with other entries and fresh checkpoints over them, signed by everyone."""
    sizes = forge.order.checkpoint_sizes()
    notes = []
    tree = MerkleTree()
    for content in entries:
        tree.append(content)
        if tree.size in sizes:
            notes.append(note_of(forge, tree, cosigned=tree.size == sizes[-1]))
    return replace(evidence, entries=tuple(entries), checkpoints=tuple(notes), trainer_heads={})
