"""The owner of a forged run as operator of its ledger: no MPI, no files, no training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
from forge import SAMPLES, START, STEPS, Forge, plan_of

from clicooper_hpc.errors import EvidenceError
from clicooper_hpc.owner.log_operator import LogOperator, LogOperatorSettings
from clicooper_hpc.provenance.envelope import Envelope
from clicooper_hpc.provenance.ledger_order import EntryId
from clicooper_hpc.provenance.proof_message import ProofMessage
from clicooper_hpc.provenance.statements import Flow, RunStatement, parse_statement
from clicooper_hpc.runstore.run_folder import RunFolder
from clicooper_hpc.runstore.tables.writer import TableWriter
from clicooper_hpc.training.events import StageEnd
from clicooper_hpc.training.message_digests import MessageLog
from clicooper_hpc.training.restart_point import RestartPoint
from clicooper_hpc.transport.world import World

__all__ = ["FakeWorld", "FakeWriter", "Stage", "enrol", "operator_of", "point_of"]


@dataclass
class FakeWorld:
    """Rank 0 without MPI: trainers send ``proofs`` and ``parts``; what goes to all is kept."""

    proofs: Mapping[int, bytes] = field(default_factory=dict)
    parts: Sequence[bytes] = ()
    to_all: list[bytes] = field(default_factory=list)

    def send_blob(self, peer: int, payload: bytes, **options: Any) -> None:
        assert peer == 1

    def receive_blob(self, peer: int, **options: Any) -> bytearray:
        return bytearray(self.proofs[peer])

    def gather_bytes(self, payload: bytes, **options: Any) -> list[bytes]:
        return [payload, *self.parts]

    def broadcast_bytes(self, payload: bytes, **options: Any) -> bytes:
        self.to_all.append(payload)
        return payload


@dataclass
class FakeWriter:
    """Keeps the rows."""

    rows: list[tuple[str, Mapping[str, Any]]] = field(default_factory=list)

    def append(self, table: str, values: Mapping[str, Any]) -> None:
        self.rows.append((table, values))

    def sync(self) -> None:
        pass


@dataclass
class FakeRecord:
    """What went over one of the owner's channels in a stage."""

    said: Flow

    def flow(self) -> Flow:
        return self.said


@dataclass
class FakeLog:
    """Digests of the messages that the owner of a forged run sent in ``stage``."""

    one: Forge
    stage: int = 0

    def take_digests(self) -> tuple[dict[str, FakeRecord], None]:
        honest = self.one.first_handoff(self.stage)
        sent, came = FakeRecord(honest.forward), FakeRecord(honest.backward)
        return {"forward_out": sent, "backward_in": came}, None

    def close(self) -> None:
        pass


def operator_of(
    one: Forge,
    world: FakeWorld,
    writer: FakeWriter,
    *,
    marks: bool | None = True,
    stage: int = 0,
    folder: Path | None = None,
) -> LogOperator:
    plan = plan_of(one)
    run = parse_statement(one.envelopes[EntryId("run")].payload)
    assert isinstance(run, RunStatement)
    return LogOperator(
        cast(World, world),
        plan,
        log=cast(MessageLog, FakeLog(one, stage)),
        writer=cast(TableWriter, writer),
        settings=LogOperatorSettings(
            run=run,
            identity=one.owner,
            trainers=tuple(identity.public for identity in one.trainers),
            start=START,
            keep_evidence=partial(RunFolder(folder or Path("nowhere")).keep_equivocation, 0),
            wait_s=1.0,
            marks=marks,
        ),
    )


def point_of(one: Forge, standing: int, *, stages: int) -> RestartPoint:
    """Return where a start continues behind so many entries; ``stages`` are proved in them."""
    return RestartPoint(
        step=STEPS * stages,
        proved_step=STEPS * stages,
        has_ledger=True,
        ledger_entries=tuple(one.entries[:standing]),
        stored_checkpoints=stages + 1,
    )


def enrol(one: Forge, *, marks: bool | None = True) -> FakeWorld:
    """Let the trainers of a forged run enrol."""
    segments = range(1, one.segments + 1)
    parts = [one.envelopes[EntryId("enrolment", 0, i)].to_bytes() for i in segments]
    world = FakeWorld(parts=parts)
    operator_of(one, world, FakeWriter(), marks=marks).begin(RestartPoint.at_start())
    return world


class Stage:
    """A stage of a forged run at its end, as its owner meets it. The stages before stand."""

    def __init__(
        self,
        one: Forge,
        *,
        stage: int = 1,
        without_proof: int = 0,
        presented: Mapping[int, Envelope | None] | None = None,
        folder: Path | None = None,
    ) -> None:
        """``presented``: segment to what its trainer presents as the proof of the one before."""
        self.stage = stage
        came = {
            segment: one.envelopes[EntryId("stage", stage, segment - 1)] if segment > 1 else None
            for segment in range(1, one.segments + 1)
        } | dict(presented or {})
        standing = one.order.index_of("handoff", stage, 0)
        self.world = FakeWorld(
            {
                segment: ProofMessage(
                    one.envelopes[EntryId("handoff", stage, segment - 1)],
                    None
                    if segment == without_proof
                    else one.envelopes[EntryId("stage", stage, segment)],
                    None if segment == without_proof else came[segment],
                ).to_bytes()
                for segment in range(1, one.segments + 1)
            }
        )
        self.writer = FakeWriter()
        self.operator = operator_of(one, self.world, self.writer, stage=stage, folder=folder)
        self.operator.begin(point_of(one, standing, stages=stage))
        assert self.writer.rows == []
        self.world.to_all.clear()

    def log(self, samples: int = SAMPLES) -> None:
        """Let the stage end in which so many samples were used."""
        for _ in range(2):  # step by step, as a run counts them
            self.operator.count_samples(samples // 2)
        self.operator.log_stage(StageEnd(self.stage, STEPS * self.stage, STEPS * (self.stage + 1)))

    def refuse(self, says: str, samples: int = SAMPLES) -> str:
        """Let the stage end; nothing of it may be stored or sent to anybody. Return the line."""
        with pytest.raises(EvidenceError, match=says) as refused:
            self.log(samples)
        assert self.writer.rows == []
        assert self.world.to_all == []
        return refused.value.line()
