"""The state of a segment at the end of a stage, and whether it is the one that was proved."""

from __future__ import annotations

from dataclasses import dataclass

from clicooper_hpc.errors import EvidenceError
from clicooper_hpc.provenance.envelope import parse_envelope
from clicooper_hpc.provenance.statements import StageProof, parse_statement
from clicooper_hpc.provenance.tensors import tensors_root
from clicooper_hpc.training.segment_state import TRAINING, WEIGHTS

__all__ = ["Roots", "compare_with_proof", "roots_of"]


@dataclass(frozen=True, slots=True)
class Roots:
    """Tensor roots (32 bytes) of weights and of what else training needs."""

    weights: bytes
    training: bytes


def roots_of(content: bytes) -> Roots:
    """Return the roots of a state file whose tensors `export_segment_state` named."""
    return Roots(
        tensors_root(content, prefix=WEIGHTS).value,
        tensors_root(content, prefix=TRAINING).value,
    )


def compare_with_proof(roots: Roots, entry: bytes, where: str) -> None:
    """Compare the state after training a stage again with the proof of it, a ledger ``entry``.

    Raises
    ------
    EvidenceError
        They differ, or the entry is no proof.
    """
    proof = parse_statement(parse_envelope(entry, where=where).payload, where=where)
    if not isinstance(proof, StageProof) or (proof.weights_out, proof.optimizer_out) != (
        roots.weights.hex(),
        roots.training.hex(),
    ):
        raise EvidenceError(
            "training this stage again gave another state than was proved",
            where=where,
            remedy="Resume on the hardware and libraries the run began with, from an undamaged "
            "checkpoint.",
        )
