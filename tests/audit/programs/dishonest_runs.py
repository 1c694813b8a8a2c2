"""dishonest_runs.py JOB FOLDER LIE...: one run after the other, each with a trainer that lies.

Every run goes to FOLDER/LIE; its liar holds its true keys, and departs from stage 1 on (enrolments,
and what else is said but once, from the beginning). Several runs in one start, for most of the time
of a small run is spent on loading libraries.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from clicooper_hpc.cli import main
from clicooper_hpc.pipeline.runtime import SegmentRuntime, StepReport
from clicooper_hpc.provenance.envelope import Envelope, sign_envelope
from clicooper_hpc.provenance.proof_message import ProofMessage
from clicooper_hpc.provenance.statement_fields import MarkClaim, MarkPlanClaim
from clicooper_hpc.provenance.statements import parse_statement
from clicooper_hpc.run import environment as environment_of_run
from clicooper_hpc.run import trainer_role
from clicooper_hpc.runstore.checkpoints import stage_checkpoint_path
from clicooper_hpc.runstore.tables.writer import TableWriter
from clicooper_hpc.trainer.marker import Marker, marker_hook
from clicooper_hpc.trainer.proof_exchange import ProofExchange
from clicooper_hpc.trainer.prover import Prover
from clicooper_hpc.trainer.stage_recorder import StageRecorder, StateRoots
from clicooper_hpc.transport.channel import Message, Outbound
from clicooper_hpc.transport.message_kind import Kind

#: The trainer that lies: in the middle, so that there are honest ones on both sides.
LIAR: Final = 2
#: First step and stage in which it does.
FIRST, STAGE = 3, 1

lie = ""
Rows = Callable[[int], Tensor] | None
honest_update, honest_input = SegmentRuntime._update, SegmentRuntime._input
honest_backward, honest_send = SegmentRuntime._backward, SegmentRuntime._send
honest_step = SegmentRuntime.train_step
honest_start_mark, honest_claim = Marker.start_mark, Marker.claim_mark
honest_plan_claim = Marker.plan_claim
honest_messages, honest_keep = StageRecorder.append_messages, StageRecorder.keep_state
honest_seal, honest_sign = StageRecorder.seal_stage, Prover._sign_proof
honest_send_proof = ProofExchange.send_proof
honest_environment = environment_of_run.replay_environment
honest_append = TableWriter.append
_HALF = (
    "half the steps",
    "false processor and half the steps",
    "false message rows and half the steps",
)
seen: dict[torch.Size, Tensor] = {}
kept: dict[int, list[Tensor]] = {}


def lies(*names: str) -> bool:
    return bool(lie in names and sys.modules["mpi4py.MPI"].COMM_WORLD.Get_rank() == LIAR)


def update(self: SegmentRuntime, step: int, learning_rate: float, report: StepReport) -> None:
    odd = step >= FIRST
    if odd and (lies("do nothing", "noise") or (lies(*_HALF) and step % 2)):
        self._global_squared_norm(step)  # its neighbours wait for it
        if lies("noise"):
            with torch.no_grad():
                for value in self.parameters:
                    value.add_(torch.randn_like(value), alpha=1e-3)
        return
    if odd and lies("frozen layer"):
        for value in self.parameters[-2:]:
            value.grad = torch.zeros_like(value)
    if odd and lies("smaller batch"):
        for value, gradient in zip(self.parameters, kept.pop(step), strict=True):
            value.grad = gradient
    if odd and lies("fresh optimizer") and self.optimizer is not None:
        self.optimizer.state.clear()
    rate = learning_rate * (0.5 if odd and lies("smaller rate") else 1.0)
    honest_update(self, step, rate, report)
    if odd and lies("coarse numbers"):
        with torch.no_grad():
            for value in self.parameters:
                value.copy_(value.bfloat16().float())


def stale(
    self: SegmentRuntime, step: int, micro_batch: int, released: Rows, row_count: int
) -> tuple[Tensor, Message | None]:
    rows, message = honest_input(self, step, micro_batch, released, row_count)
    if step >= FIRST and self.segment.training and lies("stale data"):
        rows = seen.setdefault(rows.shape, rows.clone())
    return rows, message


def backward(self: SegmentRuntime, step: int, micro_batch: int, report: StepReport) -> None:
    honest_backward(self, step, micro_batch, report)
    if step >= FIRST and micro_batch == 0 and lies("smaller batch"):
        # Of the whole batch the first part alone counts.
        kept[step] = [v.grad.clone() * 2 for v in self.parameters if v.grad is not None]


def send(
    self: SegmentRuntime,
    sender: Outbound | None,
    kind: Kind,
    step: int,
    micro_batch: int,
    tensor: Tensor,
) -> None:
    if step >= FIRST and self.segment.training:
        if kind is Kind.ACTIVATION and lies("noise for activations"):
            tensor = torch.randn(tensor.shape, generator=torch.Generator().manual_seed(3))
        if kind is Kind.ACTIVATION and lies("one wrong bit") and step == FIRST:
            tensor = tensor.detach().clone()
            tensor[0, 0] = torch.nextafter(tensor[0, 0], torch.tensor(9.0))
        if kind is Kind.GRADIENT and lies("no gradients"):
            tensor = torch.zeros_like(tensor)
    honest_send(self, sender, kind, step, micro_batch, tensor)


def train_step(self: SegmentRuntime, step: int, lane: Any, **others: Any) -> StepReport:
    if step >= FIRST and lies("no dropout"):
        for layer in self.segment.layers:
            if hasattr(layer, "p"):
                setattr(layer, "p", 0.0)  # noqa: B010 - no attribute a layer must have
    return honest_step(self, step, lane, **others)


def start_mark(
    self: Marker, stage: int, *, first: int, last: int, chain: bytes
) -> Callable[[int], None]:
    if lies("mark elsewhere") and stage >= STAGE:
        embed = honest_start_mark(self, stage, first=first, last=last, chain=bytes(32))
        assert self._mark is not None
        self._mark = replace(self._mark, chain=chain)
        return embed
    embed = honest_start_mark(self, stage, first=first, last=last, chain=chain)
    if lies("no mark", "no mark and says so", "no mark and a false reading") and stage >= STAGE:
        return lambda step: None
    if lies("weak mark") and stage >= STAGE:
        assert self._mark is not None
        plan = replace(self._settings.plan, tau=2.5)
        return marker_hook(
            self._layers, plan, self._mark.carriers, first=first, last=last, every_steps=1
        )
    return embed


def claim_mark(self: Marker) -> MarkClaim | None:
    claim = honest_claim(self)
    if claim.leaf_index < STAGE:
        return claim
    if lies("no mark and says so"):
        return None
    if lies("no mark and a false reading", "false reading"):
        return claim.model_copy(update={"statistic": "19.000000", "errors": 0})
    if lies("false mark index"):
        return claim.model_copy(update={"leaf_index": 0})
    return claim


def plan_claim(self: Marker) -> MarkPlanClaim:
    claim = honest_plan_claim(self)
    if lies("false mark root"):
        return claim.model_copy(update={"root": "ab" * 32})
    if lies("plan of its own"):
        return claim.model_copy(update={"bits": claim.bits - 1})
    return claim


def append_messages(self: StageRecorder, stage: int, records: Mapping[Any, Any]) -> None:
    if stage >= STAGE and lies("false message rows", "false message rows and half the steps"):
        records = {
            name: replace(record, digests=[bytes(32) for _ in record.digests])
            for name, record in records.items()
        }
    if stage >= STAGE and lies("message rows left out"):
        records = {name: replace(one, digests=[], places=[]) for name, one in records.items()}
    honest_messages(self, stage, records)


def keep_state(self: StageRecorder, stage: int, step: int, content: bytes) -> None:
    if stage >= STAGE and lies("no checkpoint files"):
        return
    honest_keep(self, stage, step, content)
    if stage >= STAGE and lies("false checkpoint file") and self._run is not None:
        path = stage_checkpoint_path(self._run, stage, LIAR)
        path.unlink()  # the checkpoint of this step may be the same file
        path.write_bytes(content[:-4] + b"\x00\x00\x80\x3f")


def seal_stage(self: StageRecorder) -> str:
    return "cd" * 32 if lies("false table digest") else honest_seal(self)


def sign_proof(self: Prover, now: Any, facts: Any, roots: StateRoots, tables: str) -> Envelope:
    envelope = honest_sign(self, now, facts, roots, tables)
    changes: dict[str, object] = {}
    stage = now.ticket.stage
    if lies("false environment of a stage") and stage >= STAGE:
        changes["environment"] = "ef" * 32
    if lies("false times"):
        changes["time"] = {"start": "2020-01-01T00:00:00+00:00", "end": "2020-01-02T00:00:00+00:00"}
    if lies("false first optimizer") and stage == 0:
        changes["optimizer_in"] = "12" * 32
    for name, field in _REFUSED.items():
        if lies(name) and stage >= STAGE:
            changes[field] = 1 if field in ("steps", "samples", "segment", "stage") else "34" * 32
    if lies("old proof") and stage >= STAGE:
        return self._old_envelope  # type: ignore[attr-defined,no-any-return]
    if not changes:
        self._old_envelope = envelope  # type: ignore[attr-defined]
        return envelope
    proof = parse_statement(envelope.payload)
    proof = type(proof).model_validate({**proof.model_dump(exclude_none=True), **changes})
    return sign_envelope(proof.statement_bytes(), self._participant.identity)


def send_proof(self: ProofExchange, peer: int, stage: int, message: ProofMessage) -> None:
    if peer and stage >= STAGE and message.proof is not None and lies("two proofs"):
        proof = parse_statement(message.proof.payload)
        proof = type(proof).model_validate(
            {**proof.model_dump(exclude_none=True), "environment": "ef" * 32}
        )
        other = sign_envelope(proof.statement_bytes(), self._participant.identity)
        message = replace(message, proof=other)
    if not peer and stage >= STAGE and message.upstream is not None:
        if lies("forged neighbour"):
            forged = sign_envelope(message.upstream.payload, self._participant.identity)
            message = replace(message, upstream=forged)
        if lies("neighbour left out"):
            message = replace(message, upstream=None)
    honest_send_proof(self, peer, stage, message)


#: Lies that end the run: name, and the field of the proof that is false.
_REFUSED = {
    "false number of steps": "steps",
    "false number of samples": "samples",
    "another's segment": "segment",
    "false start": "weights_in",
    "false ticket": "ticket",
    "false chain": "previous",
    "false neighbour": "upstream",
    "other messages received": "handoff_in",
    "other messages sent": "handoff_out",
}


def append(self: TableWriter, table: str, values: Mapping[str, Any]) -> None:
    if table == "training" and lies("false losses"):
        values = {**values, "gradient_norm": 0.5}
    honest_append(self, table, values)


def environment(world: Any, device: torch.device) -> Mapping[str, str]:
    found = dict(honest_environment(world, device))
    for name in ("processor", "threads", "torch"):
        if lies(f"false {name}", f"false {name} and half the steps"):
            found[name] = "7"
    return {**found, "host": "elsewhere"} if lies("false host") else found


TableWriter.append = append  # type: ignore[method-assign]
SegmentRuntime._update = update  # type: ignore[method-assign]
SegmentRuntime._input = stale  # type: ignore[method-assign]
SegmentRuntime._backward = backward  # type: ignore[method-assign]
SegmentRuntime._send = send  # type: ignore[method-assign]
SegmentRuntime.train_step = train_step  # type: ignore[method-assign]
Marker.start_mark = start_mark  # type: ignore[method-assign]
Marker.claim_mark = claim_mark  # type: ignore[method-assign, assignment]
Marker.plan_claim = plan_claim  # type: ignore[method-assign]
StageRecorder.append_messages = append_messages  # type: ignore[method-assign]
StageRecorder.keep_state = keep_state  # type: ignore[method-assign]
StageRecorder.seal_stage = seal_stage  # type: ignore[method-assign]
ProofExchange.send_proof = send_proof  # type: ignore[method-assign]
Prover._sign_proof = sign_proof  # type: ignore[method-assign]
trainer_role.replay_environment = environment  # type: ignore[attr-defined]

job, folder, *names = sys.argv[1:]
for lie in names:
    seen.clear()
    code = main(["run", job, "-o", f"{folder}/{lie}", "--quiet"])
    # A lie may be found when the run has come to its end: that keeps no other run from its own.
    if sys.modules["mpi4py.MPI"].COMM_WORLD.Get_rank() == 0:
        Path(folder, f"{lie}.code").write_text(str(code))
