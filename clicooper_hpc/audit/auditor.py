"""Everything an audit needs from a run folder: verified proofs, job, released rows, mark keys."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from clicooper_hpc.audit.evidence import proved_messages, proved_state
from clicooper_hpc.audit.inputs import release_digests
from clicooper_hpc.audit.replay import StageReplay, replay_stage
from clicooper_hpc.audit.verdict import Claim
from clicooper_hpc.config.load import job_from_canonical
from clicooper_hpc.errors import EvidenceError, RunFolderError
from clicooper_hpc.owner.secrets import require_owner_secrets
from clicooper_hpc.owner.setup import Preparation, prepare
from clicooper_hpc.pipeline.device import choose_device
from clicooper_hpc.pipeline.runtime import Edges, SegmentRuntime
from clicooper_hpc.provenance.chain import Place
from clicooper_hpc.provenance.marks.carriers import draw
from clicooper_hpc.provenance.marks.keys import mark_seed, open_mark, verify_opening
from clicooper_hpc.provenance.statements import (
    Enrolment,
    Handoff,
    Predicate,
    StageProof,
    Ticket,
)
from clicooper_hpc.run.build import build_layout, build_network, build_run_plan, build_runtime
from clicooper_hpc.run.credentials import MARK_KEY
from clicooper_hpc.runstore.checkpoints import checkpoint_file
from clicooper_hpc.runstore.private import PrivateFolder
from clicooper_hpc.runstore.reader import Run
from clicooper_hpc.runstore.tables import MESSAGES
from clicooper_hpc.runstore.tensors import pack_tensors
from clicooper_hpc.trainer.marker import embedding_hook
from clicooper_hpc.training.events import StageStart, TrainStep
from clicooper_hpc.training.message_digests import ChannelRecord
from clicooper_hpc.training.replay_conditions import differing_conditions, replay_conditions
from clicooper_hpc.training.run_plan import plan_stage_orders
from clicooper_hpc.training.segment_state import export_segment_state
from clicooper_hpc.verification.ledger_view import LedgerView
from clicooper_hpc.verification.read_run import evidence_of
from clicooper_hpc.verification.verify import examine

__all__ = ["StageAudit", "StageAuditor"]

_P = TypeVar("_P", bound=Predicate)
#: Checks an audit stands on; that the run came to its end is not needed to judge one stage.
_NEEDED: Final = frozenset(range(1, 13)) - {5}


@dataclass(frozen=True, slots=True)
class StageAudit:
    """One stage: as replayed, as claimed, and the states it began with."""

    replay: StageReplay
    claim: Claim
    starts: Sequence[Mapping[str, Tensor]]


class StageAuditor:
    """A run, ready to be trained again stage by stage.

    Parameters
    ----------
    run
        Complete or not; its owner's private folder must be there, for the released rows.

    Raises
    ------
    EvidenceError
        The proofs do not hold: there is nothing to compare a replay with.
    RunFolderError
        The owner's secrets are missing.
    """

    def __init__(self, run: Run) -> None:
        self.view = _verified(run)
        self.stages = self.view.run.stages
        self._run = run
        job = job_from_canonical(str(run.attrs["resolved_job"]))
        self.job = job.cut_at(self.view.run.cuts[1:])
        torch.set_num_threads(job.training.threads)
        self.device = choose_device(job.pipeline.device, 0)
        self._preparation = _prepared(self)
        contract = self._preparation.contract
        self._model = build_network(self.job, contract)
        segments = self.view.run.segments
        self._layout = build_layout(self.job, self._model, contract, segments)
        self.course = build_run_plan(self.job, contract, self._preparation.sub_labels, segments)
        self._sent_rows_agree = False
        self._initial = [
            pack_tensors(export_segment_state(runtime), {}) for runtime in self._runtimes()
        ]

    @property
    def private(self) -> Path:
        """The owner's private folder."""
        return self._run.folder.private

    def other_conditions(self) -> list[str]:
        """Say what keeps a replay from being equal to the bit; empty if nothing does."""
        here = replay_conditions(self.device)
        return [
            f"segment {segment}: {difference}"
            for segment in range(1, self.view.run.segments + 1)
            for difference in differing_conditions(
                self._statement(Enrolment, Place("enrolment", 0, segment)).environment, here
            )
        ]

    def audit(self, stage: int) -> StageAudit:
        """Train ``stage`` again; read what its trainers claim."""
        segments = range(1, self.view.run.segments + 1)
        proofs = [self._statement(StageProof, Place("stage", stage, one)) for one in segments]
        starts = [
            proved_state(
                self._content(stage - 1, proof.segment),
                weights=proof.weights_in,
                training=proof.optimizer_in,
                where=f"state of segment {proof.segment} before stage {stage}",
            )
            for proof in proofs
        ]
        ends = [
            proved_state(
                self._content(stage, proof.segment),
                weights=proof.weights_out,
                training=proof.optimizer_out,
                where=f"state of segment {proof.segment} after stage {stage}",
            )
            for proof in proofs
        ]
        steps = self._steps(stage)
        self._check_own_side(stage, steps)
        handoffs = [self._statement(Handoff, Place("handoff", stage, one - 1)) for one in segments]
        tables = {
            rank: rows
            for rank in segments
            for table, rows in self._run.rows(rank).items()
            if table.name == MESSAGES.name
        }
        claim = Claim(ends, proved_messages(tables, handoffs, stage))
        runtimes = self._runtimes()
        for runtime, proof in zip(runtimes, proofs, strict=True):
            runtime.after_update = self._mark(runtime, proof)
        replay = replay_stage(runtimes, starts, self.course, steps, self._rows)
        return StageAudit(replay, claim, starts)

    def _check_own_side(self, stage: int, steps: Sequence[TrainStep]) -> None:
        """Refuse to judge trainers by other samples, sub-labels or rows than the owner gave them.

        Rows that trainer 1 took from its cache are those of the first epoch: these must have the
        digests that both signed.
        """
        ticket = self._statement(Ticket, Place("ticket", stage, 1))
        order = next(islice(plan_stage_orders(self.course), stage, None)).hex
        if order != ticket.data_order:
            raise EvidenceError(
                f"the owner's samples or sub-labels are not those it ordered in stage {stage}",
                where=str(self.private),
                remedy="Audit with the private folder and the data the run was made with.",
            )
        if all(step.from_owner for step in steps) or self._sent_rows_agree:
            return
        for first in range(self.view.run.stages):
            sent = [step for step in self._steps(first) if step.from_owner]
            handoff = self._statement(Handoff, Place("handoff", first, 0))
            digests = release_digests(self.course, sent, self._rows)
            if ChannelRecord(digests=list(digests)).root.hex() != handoff.forward.root:
                raise EvidenceError(
                    f"the owner's rows are not those it sent in stage {first}",
                    where=str(self.private),
                    remedy="Audit with the private folder and the data the run was made with.",
                )
            if not sent:
                break
        self._sent_rows_agree = True

    def _rows(self, ids: NDArray[np.int64]) -> Tensor:
        # The desk hands out the bytes that left once, or nothing; it charges them only once.
        return self._preparation.desk.rows("train", ids)[0]

    def _steps(self, stage: int) -> list[TrainStep]:
        events = self.course.planned_events()
        now, found = -1, []
        for event in events:
            now = event.stage if isinstance(event, StageStart) else now
            if now > stage:
                break
            if now == stage and isinstance(event, TrainStep):
                found.append(event)
        return found

    def _runtimes(self) -> list[SegmentRuntime]:
        return [
            build_runtime(
                self.job,
                build_network(self.job, self._preparation.contract),
                self._layout,
                segment=segment,
                outputs=self._preparation.contract.outputs,
                device=self.device,
                edges=Edges(),
            )
            for segment in range(self.view.run.segments)
        ]

    def _content(self, stage: int, segment: int) -> bytes:
        if stage < 0:
            return self._initial[segment - 1]
        path = checkpoint_file(self._run.folder.path, stage, segment)
        try:
            return path.read_bytes()
        except OSError as error:
            raise RunFolderError(
                f"the checkpoint cannot be read ({error.strerror})",
                where=str(path),
                remedy="Only runs with provenance.keep_checkpoints = true can be audited.",
            ) from error

    def _mark(self, runtime: SegmentRuntime, proof: StageProof) -> Callable[[int], None] | None:
        """Return what put the mark of the stage into the segment, None if nothing did."""
        run, segment, stage = self.view.run, proof.segment, proof.stage
        enrolled = self._statement(Enrolment, Place("enrolment", 0, segment)).mark
        if enrolled is None or proof.mark is None:
            return None
        opening = open_mark(run.run_id, segment, self._master(segment), run.stages, stage)
        verify_opening(opening, run.run_id, segment, run.stages, bytes.fromhex(enrolled.root))
        plan = enrolled.plan()
        layers = runtime.segment.layers
        shapes = {name: tuple(value.shape) for name, value in layers.state_dict().items()}
        seed = mark_seed(opening.key, bytes.fromhex(proof.mark.chain))
        return embedding_hook(
            layers,
            plan,
            draw(plan, shapes, seed),
            first=run.stage_bounds[stage],
            last=run.stage_bounds[stage + 1],
            every_steps=self.job.provenance.mark_every_steps,
        )

    def _master(self, segment: int) -> bytes:
        folder = self.private / f"rank-{segment:03d}"
        if not (folder / MARK_KEY).is_file():
            raise RunFolderError(
                f"the key of segment {segment}'s mark is not known",
                where=str(folder),
                remedy="Audit where its trainer keeps the run folder, or ask it for the file.",
            )
        return PrivateFolder(folder).read(MARK_KEY)

    def _statement(self, kind: type[_P], place: Place) -> _P:
        entry = self.view.get(place)
        if entry is None or not isinstance(entry.statement, kind):
            raise EvidenceError(f"the ledger has no {place}", where="ledger")
        return entry.statement


def _verified(run: Run) -> LedgerView:
    view = LedgerView(evidence_of(run))
    for result in examine(view):
        if result.number in _NEEDED and result.passed is False:
            raise EvidenceError(
                f"check {result.number} ({result.title}) failed: {result.detail}",
                where="ledger",
                remedy="See `clicooper verify`: what is not proved cannot be audited.",
            )
    return view


def _prepared(scene: StageAuditor) -> Preparation:
    """Bring the owner's released rows and sub-labels back."""
    require_owner_secrets(scene.private, "audit")
    return prepare(scene.job, PrivateFolder(scene.private))
