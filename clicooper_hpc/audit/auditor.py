"""`StageAuditor`: trains a stage of a run again, from verified proofs and the owner's files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from clicooper_hpc.audit.proved_run import ProvedRun
from clicooper_hpc.audit.replay import StageReplay, replay_stage
from clicooper_hpc.audit.replayed_mark import replayed_mark_hook
from clicooper_hpc.audit.replayed_release import replayed_release_digests
from clicooper_hpc.audit.stage_claim import StageClaim, claimed_root
from clicooper_hpc.errors import EvidenceError
from clicooper_hpc.owner.release_setup import ReleaseSetup, set_up_release
from clicooper_hpc.owner.secrets import require_owner_secrets
from clicooper_hpc.pipeline.device import choose_device
from clicooper_hpc.pipeline.runtime import Edges, SegmentRuntime
from clicooper_hpc.provenance.identity import PublicIdentity
from clicooper_hpc.run.build import build_layout, build_network, build_run_plan, build_runtime
from clicooper_hpc.run.vouching import noted_owner_key, vouched_job
from clicooper_hpc.runstore.private_folder import PrivateFolder
from clicooper_hpc.runstore.reader import Run
from clicooper_hpc.runstore.safetensors_files import pack_safetensors
from clicooper_hpc.training.events import StageStart, TrainStep
from clicooper_hpc.training.replay_conditions import differing_conditions, replay_conditions
from clicooper_hpc.training.run_plan import plan_stage_orders
from clicooper_hpc.training.segment_state import export_segment_state

__all__ = ["StageAudit", "StageAuditor"]


@dataclass(frozen=True, slots=True)
class StageAudit:
    """One stage: as replayed, as claimed, and the states it began with."""

    replay: StageReplay
    claim: StageClaim
    starts: Sequence[Mapping[str, Tensor]]


class StageAuditor:
    """A run, ready to be trained again stage by stage.

    Parameters
    ----------
    run
        Complete or not; its owner's private folder must be there, for the released rows.
    owner_key
        The owner's key, where the user insists on one; else the one in the private folder.

    Raises
    ------
    EvidenceError
        The proofs do not hold: there is nothing to compare a replay with. Or nobody vouches for
        the job text: see `clicooper_hpc.run.vouching`.
    RunFolderError
        The owner's secrets are missing.
    """

    def __init__(self, run: Run, *, owner_key: PublicIdentity | None = None) -> None:
        self._proved = ProvedRun(run, owner_key=owner_key or noted_owner_key(run))
        self.view = self._proved.view
        self.stages = self.view.run.stages
        self._run = run
        # The signed cuts: with partition = "auto" the job finds them by times measured on the spot.
        require_owner_secrets(self.private, "audit")
        # Nothing the job names is read or imported before this.
        job = vouched_job(run, owner_key=owner_key)
        self.job = job.cut_at(self.view.run.cuts[1:])
        # How many threads share a sum decides the order it is added in, and so its last bit.
        torch.set_num_threads(job.training.threads)
        self.device = choose_device(job.pipeline.device, 0)
        self._preparation = _prepared(self)
        contract = self._preparation.contract
        self._model = build_network(self.job, contract)
        segments = self.view.run.segments
        self._layout = build_layout(self.job, self._model, contract, segments)
        self.plan = build_run_plan(self.job, contract, self._preparation.sub_labels, segments)
        self._sent_rows_agree = False
        self._initial = [
            pack_safetensors(export_segment_state(runtime), {}) for runtime in self._runtimes()
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
                self._proved.enrolment(segment).environment, here
            )
        ]

    def audit_stage(self, stage: int) -> StageAudit:
        """Train ``stage`` again; read what its trainers claim.

        Raises
        ------
        EvidenceError
            What the run kept is not what was signed, or the owner's samples and released rows
            are not those of the run.
        RunFolderError
            A checkpoint or a mark key is missing.
        """
        starts = self._proved.start_states(stage, self._initial)
        ends = self._proved.end_states(stage)
        steps = self._stage_steps(stage)
        self._check_owner_files(stage, steps)
        claim = StageClaim(ends, self._proved.stage_messages(stage))
        # Fresh ones for each stage: nothing of an optimizer or a generator may outlive a replay.
        runtimes = self._runtimes()
        for runtime, proof in zip(runtimes, self._proved.stage_proofs(stage), strict=True):
            runtime.after_update = replayed_mark_hook(
                runtime,
                proof,
                self._proved.enrolment(proof.segment),
                self.view,
                private=self.private,
                every_steps=self.job.provenance.mark_every_steps,
            )
        replay = replay_stage(runtimes, starts, self.plan, steps, self._released_rows)
        return StageAudit(replay, claim, starts)

    def _check_owner_files(self, stage: int, steps: Sequence[TrainStep]) -> None:
        """Refuse to judge trainers by other samples, sub-labels or rows than the owner gave them.

        Rows that trainer 1 took from its cache are those of the first epoch: these must have the
        digests that both signed.
        """
        order = next(islice(plan_stage_orders(self.plan), stage, None))
        if (order.digest.hex, order.samples) != self._proved.ordered_samples(stage):
            raise EvidenceError(
                f"the owner's samples or sub-labels are not those it ordered in stage {stage}",
                where=str(self.private),
                remedy="Audit with the private folder and the data the run was made with.",
            )
        # Rows sent in this very stage are messages of its replay and are compared there.
        if all(step.from_owner for step in steps) or self._sent_rows_agree:
            return
        for first in range(self.view.run.stages):
            sent = [step for step in self._stage_steps(first) if step.from_owner]
            digests = replayed_release_digests(self.plan, sent, self._released_rows)
            if claimed_root(digests) != self._proved.release_root(first):
                raise EvidenceError(
                    f"the owner's rows are not those it sent in stage {first}",
                    where=str(self.private),
                    remedy="Audit with the private folder and the data the run was made with.",
                )
            # The first stage without a sent row ends the first epoch: later ones send none either.
            if not sent:
                break
        self._sent_rows_agree = True

    def _released_rows(self, ids: NDArray[np.int64]) -> Tensor:
        # The gate hands out the bytes that left once, or nothing; it charges them only once.
        return self._preparation.gate.release("train", ids)[0]

    def _stage_steps(self, stage: int) -> list[TrainStep]:
        now, found = -1, []
        for event in self.plan.planned_events():
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
                # A network each, as each rank has: runtimes that shared one would share weights.
                build_network(self.job, self._preparation.contract),
                self._layout,
                segment=segment,
                outputs=self._preparation.contract.outputs,
                device=self.device,
                edges=Edges(),
            )
            for segment in range(self.view.run.segments)
        ]


def _prepared(auditor: StageAuditor) -> ReleaseSetup:
    """Bring the owner's released rows and sub-labels back."""
    return set_up_release(auditor.job, PrivateFolder(auditor.private))
