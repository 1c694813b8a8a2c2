"""The smallest complete ledger (one segment, one stage) as a test vector, its mark included.

Keys, nonce and times are fixed and Ed25519 signs deterministically, so every byte is. No network is
trained: weights follow from a formula, and carry the mark because their carriers got its signs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from vector_parts import CARD, ENVIRONMENT, IDENTITIES, JOB, stored

from clicooper_hpc.digests import digest_bytes
from clicooper_hpc.provenance.envelope import (
    Envelope,
    countersign_envelope,
    envelope_pae,
    sign_envelope,
)
from clicooper_hpc.provenance.marks.carriers import draw_carriers
from clicooper_hpc.provenance.marks.columns import place_in_columns
from clicooper_hpc.provenance.marks.mark_keys import (
    mark_key_leaf,
    mark_key_root,
    mark_key_seed,
    open_mark_key,
    stage_mark_key,
)
from clicooper_hpc.provenance.marks.mark_plan import MarkPlan
from clicooper_hpc.provenance.marks.reading import read_mark
from clicooper_hpc.provenance.merkle import MerkleTree, merkle_leaf_hash
from clicooper_hpc.provenance.proof_rules import mark_chain
from clicooper_hpc.provenance.statement_fields import (
    DeliveredSegment,
    Flow,
    Interval,
    MarkClaim,
    MarkPlanClaim,
    TreeHead,
    decimal_field,
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
from clicooper_hpc.provenance.tensor_digest import digest_tensors
from clicooper_hpc.provenance.tree_checkpoint import (
    OWNER_NAME,
    SignedCheckpoint,
    TreeCheckpoint,
    checkpoint_origin,
    checkpoint_signer,
)

__all__ = ["MASTER", "RUN_ID", "SHAPE", "ledger", "marked", "unmarked"]

Vector = dict[str, Any]
Parts = Mapping[str, Vector]

RUN_ID: Final = "00112233445566778899aabbccddeeff"
MASTER: Final = bytes(range(32))
SHAPE: Final = (64, 64)
_NAME: Final = "0.weight"
_PLAN: Final = MarkPlan(16, 64, 3.4, (_NAME,))
_STEPS: Final = 2


def unmarked() -> NDArray[np.float32]:
    """Weights by formula: exact in float32, and none of them 0."""
    numbers = np.arange(SHAPE[0] * SHAPE[1], dtype=np.int64) * 40503 % 65536 - 32768
    return (numbers / 32768).astype("<f4").reshape(SHAPE)


def marked(seed: bytes) -> NDArray[np.float32]:
    """Return the weights with every carrier given the sign of its bit."""
    shapes = {_NAME: SHAPE}
    carriers = draw_carriers(_PLAN, shapes, seed)
    weights = unmarked()
    flat = weights.reshape(-1)
    (where,) = place_in_columns((_NAME,), shapes, carriers.index)
    flat[where.weight] = np.abs(flat[where.weight]) * carriers.sign.reshape(-1)[where.carrier]
    return weights


def weights_file(weights: NDArray[np.float32]) -> bytes:
    """Return a delivered file that holds ``weights`` alone."""
    return stored({_NAME: ("F32", SHAPE, weights.tobytes())})


class _GrowingLedger:
    """Entries, tree and checkpoints as they grow."""

    def __init__(self) -> None:
        self.tree = MerkleTree()
        self.entries: list[Vector] = []
        self.checkpoints: list[str] = []

    def add(self, predicate: Predicate, first: str, *others: str) -> Envelope:
        envelope = sign_envelope(predicate.statement_bytes(), IDENTITIES[first])
        for name in others:
            envelope = countersign_envelope(envelope, IDENTITIES[name])
        content = envelope.to_bytes()
        self.tree.append(content)
        self.entries.append(
            {
                "kind": predicate.kind,
                "payload": envelope.payload.decode(),
                "pae": envelope_pae(envelope.payload).decode(),
                "signatures": [one.sig.hex() for one in envelope.signatures],
                "envelope": content.decode(),
                "digest": envelope.digest().hex,
                "payload_digest": envelope.payload_digest().hex,
                "leaf": merkle_leaf_hash(content).hex(),
                "root": self.tree.root().hex(),
            }
        )
        return envelope

    def head(self) -> TreeHead:
        return TreeHead(size=self.tree.size, root=self.tree.root().hex())

    def checkpoint(self, *cosigners: str) -> None:
        checkpoint = TreeCheckpoint(checkpoint_origin(RUN_ID), self.tree.size, self.tree.root())
        note = SignedCheckpoint.sign(checkpoint, IDENTITIES["owner"], OWNER_NAME)
        for number, name in enumerate(cosigners, 1):
            note = note.cosign(IDENTITIES[name], checkpoint_signer(number))
        self.checkpoints.append(note.to_text())


def ledger(parts: Parts) -> dict[str, Vector]:
    """Return the vectors ``ledger``, ``chain`` and ``mark``; digests come from ``parts``."""
    growing = _GrowingLedger()
    run = growing.add(_run(parts), "owner")
    claim = MarkPlanClaim.of(_PLAN, mark_key_root(RUN_ID, 1, MASTER, 1))
    enrolment = growing.add(
        Enrolment(
            run_id=RUN_ID, run=run.digest().hex, segment=1, mark=claim, environment=ENVIRONMENT
        ),
        "trainer",
    )
    growing.checkpoint()
    ticket = growing.add(_ticket(parts, growing.head()), "owner")
    flow, nothing = (
        Flow.model_validate(parts["messages"][name]) for name in ("flow", "no_messages")
    )
    handoff = growing.add(
        Handoff(run_id=RUN_ID, stage=0, boundary=0, forward=flow, backward=nothing),
        "owner",
        "trainer",
    )
    weights_in = digest_tensors(weights_file(unmarked())).hex
    chain_parts = {
        "ticket": ticket.digest().hex,
        "previous": enrolment.digest().hex,
        "neighbour": run.digest().hex,
        "weights_in": weights_in,
        "public_key": IDENTITIES["trainer"].public.raw.hex(),
    }
    chain = mark_chain(**{name: bytes.fromhex(value) for name, value in chain_parts.items()})
    mark, weights = _mark(chain.value)
    growing.add(
        StageProof(
            run_id=RUN_ID,
            segment=1,
            stage=0,
            start=hashlib.sha256(b"start").hexdigest(),
            ticket=ticket.digest().hex,
            previous=enrolment.digest().hex,
            upstream=handoff.payload_digest().hex,
            handoff_in=handoff.payload_digest().hex,
            weights_in=weights_in,
            weights_out=digest_tensors(weights_file(weights)).hex,
            optimizer_in=parts["tensors"]["digests"]["nothing/"],
            optimizer_out=parts["tensors"]["digests"]["training/"],
            steps=_STEPS,
            samples=parts["data_order"]["samples"],
            mark=MarkClaim(
                chain=chain.hex,
                leaf_index=0,
                errors=mark["marked"]["errors"],
                statistic=mark["marked"]["statistic"],
            ),
            tables=parts["rows"]["digest"],
            environment=statement_environment_digest(ENVIRONMENT).hex,
            time=Interval(start="2026-01-02T03:04:05+00:00", end="2026-01-02T03:05:05+00:00"),
        ),
        "trainer",
    )
    growing.checkpoint()
    growing.add(
        DeliveryStatement(
            run_id=RUN_ID,
            segments=(
                DeliveredSegment(segment=1, weights=digest_tensors(weights_file(weights)).hex),
            ),
            results={"clean_accuracy": "0.875000"},
            tables=parts["index"]["owner_tables"],
            ledger=growing.head(),
        ),
        "owner",
    )
    growing.checkpoint("trainer")
    return {
        "chain": {**chain_parts, "value": chain.hex},
        "ledger": {
            "run_id": RUN_ID,
            "job": JOB,
            "card": CARD,
            "entries": growing.entries,
            "checkpoints": growing.checkpoints,
        },
        "mark": mark,
    }


def _run(parts: Parts) -> RunStatement:
    return RunStatement(
        run_id=RUN_ID,
        created="2026-01-02T03:04:05+00:00",
        creator_version="0.1.0",
        job_digest=digest_bytes("clicooper/v1/job", JOB.encode()).hex,
        card_digest=digest_bytes("clicooper/v1/card", CARD.encode()).hex,
        owner=parts["identities"]["owner"]["public"],
        trainers=(parts["identities"]["trainer"]["public"],),
        cuts=(0,),
        total_steps=_STEPS,
        stage_bounds=(0, _STEPS),
        coupling="backprop",
        initial_weights=(digest_tensors(weights_file(unmarked())).hex,),
    )


def _ticket(parts: Parts, head: TreeHead) -> Ticket:
    return Ticket(
        run_id=RUN_ID,
        segment=1,
        stage=0,
        first_step=0,
        last_step=_STEPS,
        nonce=bytes(range(32, 64)).hex(),
        data_order=parts["data_order"]["digest"],
        samples=parts["data_order"]["samples"],
        job_digest=digest_bytes("clicooper/v1/job", JOB.encode()).hex,
        ledger=head,
    )


def _mark(chain: bytes) -> tuple[Vector, NDArray[np.float32]]:
    key = stage_mark_key(MASTER, 0)
    seed = mark_key_seed(key, chain)
    carriers = draw_carriers(_PLAN, {_NAME: SHAPE}, seed)
    readings = {}
    for name, weights in (("marked", marked(seed)), ("unmarked", unmarked())):
        reading = read_mark({_NAME: weights}, _PLAN, carriers)
        readings[name] = {
            "weights": digest_tensors(weights_file(weights)).hex,
            "errors": reading.errors,
            "statistic": decimal_field(reading.statistic),
            "log2_p": decimal_field(reading.log2_p, 3),
        }
    # One stage has one leaf and nothing to prove; openings are shown with five.
    opening = open_mark_key(RUN_ID, 1, MASTER, 5, 2)
    vector: Vector = {
        "run_id": RUN_ID,
        "segment": 1,
        "master": MASTER.hex(),
        "key": key.hex(),
        "leaf": mark_key_leaf(RUN_ID, 1, 0, key).hex(),
        "root": mark_key_root(RUN_ID, 1, MASTER, 1).hex(),
        "five_stages": {
            "root": mark_key_root(RUN_ID, 1, MASTER, 5).hex(),
            "stage": opening.index,
            "key": opening.key.hex(),
            "proof": [one.hex() for one in opening.proof],
        },
        "seed": seed.hex(),
        "plan": {
            "bits": _PLAN.bits,
            "weights_per_bit": _PLAN.weights_per_bit,
            "tau": _PLAN.tau_text,
            "eligible": list(_PLAN.eligible),
            "shapes": {_NAME: list(SHAPE)},
        },
        "first_carriers": carriers.index[0, :8].tolist(),
        "first_signs": carriers.sign[0, :8].tolist(),
        # SHA-256 of all of them: int64 and int8, little-endian, bit by bit.
        "carriers_sha256": _sha256(carriers.index.astype("<i8").tobytes()),
        "signs_sha256": _sha256(carriers.sign.tobytes()),
        "weights": "w[k] = (k * 40503 mod 65536 - 32768) / 32768, float32 [64, 64], C order; "
        "marked: every carrier |w| times its sign",
    }
    return {**vector, **readings}, marked(seed)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
