"""The mark of a stage, put into the weights again in a replay as its trainer put it.

Needs the trainer's secret mark key, so only who holds that file can audit a marked segment.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from clicooper_hpc.errors import RunFolderError
from clicooper_hpc.pipeline.runtime import SegmentRuntime
from clicooper_hpc.provenance.marks.carriers import draw_carriers
from clicooper_hpc.provenance.marks.mark_keys import mark_key_seed, open_mark_key, verify_mark_key
from clicooper_hpc.provenance.statements import Enrolment, StageProof
from clicooper_hpc.runstore.private_folder import PrivateFolder
from clicooper_hpc.runstore.run_folder import MARK_KEY_FILE
from clicooper_hpc.trainer.marker import marker_hook
from clicooper_hpc.verification.ledger_view import LedgerView

__all__ = ["replayed_mark_hook"]


def replayed_mark_hook(
    runtime: SegmentRuntime,
    proof: StageProof,
    enrolment: Enrolment,
    view: LedgerView,
    *,
    private: Path,
    every_steps: int,
) -> Callable[[int], None] | None:
    """Return what put the mark of a stage into the segment after each update.

    Parameters
    ----------
    runtime
        The segment in training.
    proof, enrolment
        What its trainer signed of this stage, and of its mark keys before the first.
    view
        The ledger, for the run's id and bounds of stages.
    private
        Folder with the secrets of all ranks: ``rank-NNN`` holds the mark key of rank NNN.
    every_steps
        Steps between two embeddings, from the job.

    Returns
    -------
    Callable[[int], None] or None
        None if the segment bears no mark.

    Raises
    ------
    RunFolderError
        The mark key is not in ``private``.
    EvidenceError
        The key there is not the one the trainer committed to.
    """
    run, segment, stage = view.run, proof.segment, proof.stage
    enrolled = enrolment.mark
    if enrolled is None or proof.mark is None:
        return None
    opening = open_mark_key(run.run_id, segment, _mark_key(private, segment), run.stages, stage)
    # Another key would give another mark and so a false FAIL: the fault would be the auditor's.
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
        every_steps=every_steps,
    )


def _mark_key(private: Path, segment: int) -> bytes:
    folder = private / f"rank-{segment:03d}"
    # Looked for first: PrivateFolder would make the missing folder.
    if not (folder / MARK_KEY_FILE).is_file():
        raise RunFolderError(
            f"the key of segment {segment}'s mark is not known",
            where=str(folder),
            remedy="Audit where its trainer keeps the run folder, or ask it for the file.",
        )
    return PrivateFolder(folder).read_secret(MARK_KEY_FILE)
