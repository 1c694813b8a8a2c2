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
from clicooper_hpc.owner.setup import Preparation, prepare
from clicooper_hpc.pipeline.device import choose_device
from clicooper_hpc.pipeline.runtime import Edges, SegmentRuntime
from clicooper_hpc.provenance.ledger_order import EntryId
from clicooper_hpc.provenance.marks.carriers import draw_carriers
from clicooper_hpc.provenance.marks.mark_keys import mark_key_seed, open_mark_key, verify_mark_key
from clicooper_hpc.provenance.statements import (
    Enrolment,
    Handoff,
    Predicate,
    StageProof,
    Ticket,
)
from clicooper_hpc.run.build import build_runtime, course_of, layout_of, network_of
from clicooper_hpc.run.credentials import MARK_KEY
from clicooper_hpc.run.owner_secrets import require_secrets
from clicooper_hpc.runstore.checkpoints import checkpoint_file
from clicooper_hpc.runstore.private import PrivateFolder
from clicooper_hpc.runstore.reader import Run
from clicooper_hpc.runstore.tables import MESSAGES
from clicooper_hpc.runstore.tensors import pack_tensors
from clicooper_hpc.trainer.marker import marker_hook
from clicooper_hpc.training.agenda import StageStart, TrainStep
from clicooper_hpc.training.message_digests import Record
from clicooper_hpc.training.replay_conditions import conditions, differences
from clicooper_hpc.training.stage_order import stage_orders
from clicooper_hpc.training.state import export_state
from clicooper_hpc.verification.ledger_view import LedgerView
from clicooper_hpc.verification.run_checks import run_checks_on
from clicooper_hpc.verification.run_evidence import collect_run_evidence

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
        self._model = network_of(self.job, contract)
        segments = self.view.run.segments
        self._layout = layout_of(self.job, self._model, contract, segments)
        self.course = course_of(self.job, contract, self._preparation.sub_labels, segments)
        self._sent_rows_agree = False
        self._initial = [pack_tensors(export_state(runtime), {}) for runtime in self._runtimes()]

    @property
    def private(self) -> Path:
        """The owner's private folder."""
        return self._run.folder.private

    def other_conditions(self) -> list[str]:
        """Say what keeps a replay from being equal to the bit; empty if nothing does."""
        here = conditions(self.device)
        return [
            f"segment {segment}: {difference}"
            for segment in range(1, self.view.run.segments + 1)
            for difference in differences(
                self._statement(Enrolment, EntryId("enrolment", 0, segment)).environment, here
            )
        ]

    def audit(self, stage: int) -> StageAudit:
        """Train ``stage`` again; read what its trainers claim."""
        segments = range(1, self.view.run.segments + 1)
        proofs = [self._statement(StageProof, EntryId("stage", stage, one)) for one in segments]
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
        handoffs = [
            self._statement(Handoff, EntryId("handoff", stage, one - 1)) for one in segments
        ]
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
        ticket = self._statement(Ticket, EntryId("ticket", stage, 1))
        order = next(islice(stage_orders(self.course.agenda), stage, None))
        if (order.digest.hex, order.samples) != (ticket.data_order, ticket.samples):
            raise EvidenceError(
                f"the owner's samples or sub-labels are not those it ordered in stage {stage}",
                where=str(self.private),
                remedy="Audit with the private folder and the data the run was made with.",
            )
        if all(step.from_owner for step in steps) or self._sent_rows_agree:
            return
        for first in range(self.view.run.stages):
            sent = [step for step in self._steps(first) if step.from_owner]
            handoff = self._statement(Handoff, EntryId("handoff", first, 0))
            digests = release_digests(self.course, sent, self._rows)
            if Record(digests=list(digests)).root.hex() != handoff.forward.root:
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
        events = self.course.agenda.events()
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
                network_of(self.job, self._preparation.contract),
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
        enrolled = self._statement(Enrolment, EntryId("enrolment", 0, segment)).mark
        if enrolled is None or proof.mark is None:
            return None
        opening = open_mark_key(run.run_id, segment, self._master(segment), run.stages, stage)
        verify_mark_key(opening, run.run_id, segment, run.stages, bytes.fromhex(enrolled.root))
        plan = enrolled.plan()
        layers = runtime.segment.layers
        shapes = {name: tuple(value.shape) for name, value in layers.state_dict().items()}
        seed = mark_key_seed(opening.key, bytes.fromhex(proof.mark.chain))
        return marker_hook(
            layers,
            plan,
            draw_carriers(plan, shapes, seed),
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

    def _statement(self, kind: type[_P], place: EntryId) -> _P:
        entry = self.view.find_entry(place)
        if entry is None or not isinstance(entry.statement, kind):
            raise EvidenceError(f"the ledger has no {place}", where="ledger")
        return entry.statement


def _verified(run: Run) -> LedgerView:
    view = LedgerView(collect_run_evidence(run))
    for result in run_checks_on(view):
        if result.number in _NEEDED and result.passed is False:
            raise EvidenceError(
                f"check {result.number} ({result.title}) failed: {result.detail}",
                where="ledger",
                remedy="See `clicooper verify`: what is not proved cannot be audited.",
            )
    return view


def _prepared(scene: StageAuditor) -> Preparation:
    """Bring the owner's released rows and sub-labels back."""
    require_secrets(scene.private, "audit")
    return prepare(scene.job, PrivateFolder(scene.private))
