"""The mark of a stage, put into the weights again in a replay as the job says.

Needs the trainer's secret mark key, so only who holds that file can audit a marked segment. What
the trainer signed of its mark is compared, never followed: a plan of its own, a root of other keys
or a mark left out are its doing, and stand in nobody else's way.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import Tensor

from clicooper_hpc.errors import ClicooperError, EvidenceError, UsageError
from clicooper_hpc.pipeline.runtime import SegmentRuntime
from clicooper_hpc.provenance.marks.carriers import Carriers, draw_carriers
from clicooper_hpc.provenance.marks.columns import place_in_columns
from clicooper_hpc.provenance.marks.mark_keys import mark_key_seed, open_mark_key, verify_mark_key
from clicooper_hpc.provenance.marks.mark_plan import MarkPlan, plan_mark
from clicooper_hpc.provenance.marks.reading import read_mark
from clicooper_hpc.provenance.proof_rules import mark_chain_of
from clicooper_hpc.provenance.statements import Enrolment, MarkClaim, StageProof
from clicooper_hpc.runstore.private_folder import PrivateFolder
from clicooper_hpc.runstore.run_folder import MARK_KEY_FILE
from clicooper_hpc.trainer.marker import marker_hook
from clicooper_hpc.training.segment_state import WEIGHTS
from clicooper_hpc.verification.ledger_view import LedgerView

__all__ = ["MarkRules", "ReplayedMark", "replayed_mark"]

# Six digits after the point are stated; sums may be added in another order elsewhere.
_STATISTIC_SLACK: Final = 1e-3
_KEY_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class MarkRules:
    """What the job says of marks: whether there are any, of which size, after how many steps."""

    wanted: bool
    distortion: float
    every_steps: int

    def plan_of(self, runtime: SegmentRuntime) -> MarkPlan | None:
        """Return how a segment is marked; None if it is not, or is too small."""
        if not self.wanted:
            return None
        state = runtime.segment.layers.state_dict()
        try:
            shapes = {name: tuple(value.shape) for name, value in state.items()}
            return plan_mark(shapes, distortion=self.distortion)
        except UsageError:
            return None


@dataclass(frozen=True, slots=True)
class ReplayedMark:
    """The mark of one segment in one stage.

    Attributes
    ----------
    plan, carriers
        None if the segment bears no mark, or its key is not known.
    excuse
        What its trainer stated that keeps the mark from being put in again; "" if nothing.
    false
        What it stated of the mark that is not so.
    """

    plan: MarkPlan | None = None
    carriers: Carriers | None = None
    excuse: str = ""
    false: tuple[str, ...] = ()

    def carrier_masks(self) -> dict[str, Tensor]:
        """Return which numbers of which tensors carry the mark: bool, in the tensor's shape."""
        if self.plan is None or self.carriers is None:
            return {}
        shapes = dict(zip(self.plan.eligible, self.carriers.shapes, strict=True))
        masks = {}
        for one in place_in_columns(self.plan.eligible, shapes, self.carriers.index):
            mask = torch.zeros(int(np.prod(shapes[one.name])), dtype=torch.bool)
            mask[torch.from_numpy(one.weight)] = True
            masks[f"{WEIGHTS}{one.name}"] = mask.reshape(shapes[one.name])
        return masks

    def false_reading(self, claim: MarkClaim | None, state: dict[str, Tensor]) -> str:
        """Say how ``claim`` departs from the mark that ``state`` really bears; "" if it does not.

        ``state`` is one that the trainer signed.
        """
        if self.plan is None or self.carriers is None or claim is None:
            return ""
        tensors = {
            name: state[f"{WEIGHTS}{name}"].float().numpy()
            for name in self.plan.eligible
            if f"{WEIGHTS}{name}" in state
        }
        try:
            reading = read_mark(tensors, self.plan, self.carriers)
        except EvidenceError as error:
            return f"its state cannot bear the mark ({error.what})"
        stated = float(claim.statistic)
        if claim.errors == reading.errors and abs(stated - reading.statistic) <= _STATISTIC_SLACK:
            return ""
        return (
            f"its proof says its mark reads {stated:.2f} with {claim.errors} wrong bits; it reads "
            f"{reading.statistic:.2f} with {reading.errors}"
        )


def replayed_mark(
    runtime: SegmentRuntime,
    proof: StageProof,
    enrolment: Enrolment,
    view: LedgerView,
    *,
    private: Path,
    rules: MarkRules,
) -> ReplayedMark:
    """Have ``runtime`` put the mark of a stage in after its updates, and return the mark.

    Parameters
    ----------
    runtime
        The segment in training; its ``after_update`` is set.
    proof, enrolment
        What its trainer signed of this stage, and of its mark keys before the first.
    view
        The ledger, for the chain value, the run's id and bounds of stages.
    private
        Folder with the secrets of all ranks: ``rank-NNN`` holds the mark key of rank NNN.
    """
    run, segment, stage = view.run, proof.segment, proof.stage
    plan = rules.plan_of(runtime)
    false = _false_plan(plan, proof, enrolment)
    if plan is None:
        return ReplayedMark(false=false)
    try:
        master = _mark_key(private, segment)
    except ClicooperError as error:
        return ReplayedMark(excuse=error.line(), false=false)
    opening = open_mark_key(run.run_id, segment, master, run.stages, stage)
    excuse = ""
    if enrolment.mark is not None:
        root = bytes.fromhex(enrolment.mark.root)
        try:
            verify_mark_key(opening, run.run_id, segment, run.stages, root)
        except EvidenceError:
            # Its true key may still be the one it marked with: equal bits will tell.
            excuse = "the root of mark keys it enrolled is not that of its mark.key"
            false = (*false, excuse)
    chain = mark_chain_of(
        view.digest_of,
        stage,
        segment,
        weights=proof.weights_in,
        public_key=view.key(segment).raw,
    )
    layers = runtime.segment.layers
    shapes = {name: tuple(value.shape) for name, value in layers.state_dict().items()}
    carriers = draw_carriers(plan, shapes, mark_key_seed(opening.key, chain.value))
    runtime.after_update = marker_hook(
        layers,
        plan,
        carriers,
        first=run.stage_bounds[stage],
        last=run.stage_bounds[stage + 1],
        every_steps=rules.every_steps,
    )
    return ReplayedMark(plan, carriers, excuse, false)


def _false_plan(plan: MarkPlan | None, proof: StageProof, enrolment: Enrolment) -> tuple[str, ...]:
    """Compare what a trainer enrolled and claimed with what the job has it do."""
    false = []
    enrolled = enrolment.mark
    if (enrolled is None) != (plan is None):
        has = "no mark" if enrolled is None else "a mark"
        false.append(f"it enrolled with {has}, which is not what the job says")
    elif enrolled is not None and plan is not None:
        stated = (enrolled.bits, enrolled.weights_per_bit, enrolled.tau, enrolled.eligible)
        if stated != (plan.bits, plan.weights_per_bit, plan.tau_text, plan.eligible):
            false.append("the mark it enrolled is not the one the job asks for")
    if (proof.mark is None) != (plan is None):
        has = "no mark" if proof.mark is None else "a mark"
        false.append(f"its proof claims {has}, which is not what the job says")
    return tuple(false)


def _mark_key(private: Path, segment: int) -> bytes:
    folder = private / f"rank-{segment:03d}"
    # Looked for first: PrivateFolder would make the missing folder.
    if not (folder / MARK_KEY_FILE).is_file():
        raise EvidenceError(
            f"the key of segment {segment}'s mark is not known",
            where=str(folder),
            remedy="Audit where its trainer keeps the run folder, or ask it for the file.",
        )
    key = PrivateFolder(folder).read_secret(MARK_KEY_FILE)
    if len(key) != _KEY_BYTES:
        raise EvidenceError("is no mark key", where=str(folder / MARK_KEY_FILE))
    return key
