"""`RepeatableRun`: a run's network, plan and released rows, built again from the owner's files."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from clicooper_hpc.audit.proved_run import ProvedRun
from clicooper_hpc.audit.replayed_release import replayed_release_digests
from clicooper_hpc.audit.stage_claim import claimed_root
from clicooper_hpc.errors import EvidenceError
from clicooper_hpc.owner.release_setup import ReleaseSetup, set_up_release
from clicooper_hpc.owner.secrets import require_owner_secrets
from clicooper_hpc.pipeline.device import choose_device
from clicooper_hpc.pipeline.runtime import Edges, SegmentRuntime
from clicooper_hpc.provenance.identity import PublicIdentity
from clicooper_hpc.run.build import build_layout, build_network, build_run_plan, build_runtime
from clicooper_hpc.run.vouching import vouched_job
from clicooper_hpc.runstore.private_folder import PrivateFolder
from clicooper_hpc.runstore.reader import Run
from clicooper_hpc.training.events import StageStart, TrainStep
from clicooper_hpc.training.run_plan import plan_stage_orders

__all__ = ["RepeatableRun"]


class RepeatableRun:
    """A run as the owner's files let it be trained again.

    Parameters
    ----------
    run
        Its owner's private folder must be there, for the released rows.
    proved
        The same run's verified ledger.
    owner_key
        Who must have signed the job; None: whoever is noted in the private folder.

    Attributes
    ----------
    job
        With the cuts that were signed.
    plan
        Every step of the run.

    Raises
    ------
    RunFolderError
        The owner's secrets are missing.
    EvidenceError
        Nobody vouches for the job text of the run.
    """

    def __init__(
        self, run: Run, proved: ProvedRun, *, owner_key: PublicIdentity | None = None
    ) -> None:
        self._proved = proved
        self._view = proved.view
        self._run = run
        # Asked for first, so that the error names the missing file and what to do.
        require_owner_secrets(self.private, "audit")
        # Nothing the job names is read or imported before this.
        job = vouched_job(run, owner_key=owner_key)
        # The signed cuts: with partition = "auto" the job finds them by times measured on the spot.
        self.job = job.cut_at(self._view.run.cuts[1:])
        # How many threads share a sum decides the order it is added in, and so its last bit.
        torch.set_num_threads(job.training.threads)
        self.device = choose_device(job.pipeline.device, 0)
        self._preparation = self._prepared()
        contract = self._preparation.contract
        self._model = build_network(self.job, contract)
        segments = self._view.run.segments
        self._layout = build_layout(self.job, self._model, contract, segments)
        self.plan = build_run_plan(self.job, contract, self._preparation.sub_labels, segments)
        self._sent_rows_agree = False

    @property
    def private(self) -> Path:
        """The owner's private folder."""
        return self._run.folder.private

    def check_owner_files(self, stage: int) -> None:
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
        if all(step.from_owner for step in self.stage_steps(stage)) or self._sent_rows_agree:
            return
        for first in range(self._view.run.stages):
            sent = [step for step in self.stage_steps(first) if step.from_owner]
            digests = replayed_release_digests(self.plan, sent, self.released_rows)
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

    def released_rows(self, ids: NDArray[np.int64]) -> Tensor:
        """Return the rows float32 [n, ...] released of samples with ids int64 [n]."""
        # The gate hands out the bytes that left once, or nothing; it charges them only once.
        return self._preparation.gate.release("train", ids)[0]

    def stage_steps(self, stage: int) -> list[TrainStep]:
        """Return the training steps of ``stage``, in order."""
        now, found = -1, []
        for event in self.plan.planned_events():
            now = event.stage if isinstance(event, StageStart) else now
            if now > stage:
                break
            if now == stage and isinstance(event, TrainStep):
                found.append(event)
        return found

    def runtimes(self) -> list[SegmentRuntime]:
        """Return all segments with their initial weights, fresh ones at every call."""
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
            for segment in range(self._view.run.segments)
        ]

    def _prepared(self) -> ReleaseSetup:
        """Bring the owner's released rows and sub-labels back."""
        return set_up_release(self.job, PrivateFolder(self.private))
