"""A trainer's claim on given weights: the mark of one stage, read with its opened key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clicooper_hpc.errors import EvidenceError
from clicooper_hpc.provenance.ledger_order import EntryId
from clicooper_hpc.provenance.marks.carriers import draw_carriers
from clicooper_hpc.provenance.marks.mark_keys import MarkOpening, mark_key_seed, verify_mark_key
from clicooper_hpc.provenance.marks.reading import MarkReading, read_mark
from clicooper_hpc.provenance.statements import Enrolment, StageProof
from clicooper_hpc.verification.evidence import Evidence
from clicooper_hpc.verification.ledger_view import LedgerView
from clicooper_hpc.verification.run_checks import run_checks_on

__all__ = ["ClaimReading", "read_mark_claim"]

#: What a claim stands on: all checks of the ledger but that the run came to its end.
_NEEDED = frozenset(range(1, 13)) - {5}


@dataclass(frozen=True, slots=True)
class ClaimReading:
    """A mark as read, and whose it is.

    Parameters
    ----------
    segment, stage
        The proof the mark belongs to.
    keyid
        Key id of the trainer.
    reading
        Bit errors, statistic and log2 of the chance. Whoever tries several claims on the same
        weights adds log2 of their number.
    """

    segment: int
    stage: int
    keyid: str
    reading: MarkReading


def read_mark_claim(
    evidence: Evidence,
    segment: int,
    opening: MarkOpening,
    tensors: Mapping[str, NDArray[np.floating]],
    *,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
) -> ClaimReading:
    """Read the mark that the trainer of ``segment`` put into ``tensors`` in one stage.

    Nothing in the key can be chosen afterwards: it stands in the tree signed at enrolment, and the
    chain value in the ledger before the stage. So the chance of a reading is exact whatever the
    weights are. The mark tells who held them and when, not that anybody trained them.

    Parameters
    ----------
    evidence
        The run; its ledger is verified first.
    segment
        Segment from 1.
    opening
        The stage's key (``opening.index`` is the stage) with its inclusion proof.
    tensors
        Weights of the segment or of a suspect, aligned with it if channels may have moved.
    shapes
        Shapes of the segment's own tensors; without them those of ``tensors`` are taken.

    Raises
    ------
    EvidenceError
        The ledger does not hold, has no such mark, the key is not the enrolled one, or the tensors
        do not fit the marked segment.
    """
    view = LedgerView(evidence)
    for result in run_checks_on(view):
        if result.number in _NEEDED and result.passed is False:
            raise EvidenceError(
                f"check {result.number} ({result.title}) failed: {result.detail}", where="ledger"
            )
    enrolment, proof = _claimed_statements(view, segment, opening.index)
    if enrolment is None or enrolment.mark is None or proof is None or proof.mark is None:
        raise EvidenceError(
            f"it has no mark of segment {segment}, stage {opening.index}",
            where="ledger",
            remedy="Name a segment and a stage that the run has proved with marks.",
        )
    root = bytes.fromhex(enrolment.mark.root)
    # Before anything is read: a key found afterwards could be made to fit.
    verify_mark_key(opening, view.run.run_id, segment, view.run.stages, root)
    if shapes is None:
        shapes = {name: tensor.shape for name, tensor in tensors.items()}
    plan = enrolment.mark.plan()
    # The chain value of the proof, which check 12 has computed again.
    seed = mark_key_seed(opening.key, bytes.fromhex(proof.mark.chain))
    reading = read_mark(tensors, plan, draw_carriers(plan, shapes, seed))
    return ClaimReading(segment, opening.index, view.key(segment).keyid, reading)


def _claimed_statements(
    view: LedgerView, segment: int, stage: int
) -> tuple[Enrolment | None, StageProof | None]:
    if not (1 <= segment <= view.run.segments and 0 <= stage < view.run.stages):
        return None, None
    enrolled = view.find_entry(EntryId("enrolment", 0, segment))
    proved = view.find_entry(EntryId("stage", stage, segment))
    enrolment = enrolled.statement if enrolled else None
    proof = proved.statement if proved else None
    return (
        enrolment if isinstance(enrolment, Enrolment) else None,
        proof if isinstance(proof, StageProof) else None,
    )
