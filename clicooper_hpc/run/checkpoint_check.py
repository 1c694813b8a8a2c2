"""Whether a checkpoint serves one rank: sealed by its key, files whole, finite, of its shapes."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from clicooper_hpc.errors import EvidenceError
from clicooper_hpc.provenance.identity import PublicIdentity
from clicooper_hpc.runstore.checkpoints import (
    RunCheckpoint,
    checkpoint_seal_text,
    rank_checkpoint_name,
    read_checkpoint_file,
    segment_checkpoint_name,
)
from clicooper_hpc.runstore.safetensors_files import unpack_safetensors, unpack_safetensors_texts
from clicooper_hpc.training.segment_state import check_state_finite, check_state_fits
from clicooper_hpc.training.stage_progress import StageProgress

__all__ = [
    "WantedCheckpoint",
    "check_checkpoint",
    "read_checkpoint_progress",
    "read_checkpoint_state",
]


@dataclass(frozen=True, slots=True)
class WantedCheckpoint:
    """What a checkpoint must be for one rank to begin with it."""

    rank: int
    run_id: str
    key: PublicIdentity | None
    layers: nn.Module | None


def check_checkpoint(checkpoint: RunCheckpoint, wanted: WantedCheckpoint) -> None:
    """Refuse a checkpoint that this rank did not write, or that it cannot go on from.

    Raises
    ------
    EvidenceError
        It is not sealed by this rank's key: a list that anybody can write vouches for nothing.
    RunFolderError
        A file is missing or damaged, or does not fit this rank.
    """
    rank = wanted.rank
    if wanted.key is not None:
        seal = checkpoint.seals[rank] if rank < len(checkpoint.seals) else b""
        text = checkpoint_seal_text(checkpoint.run_id, checkpoint.step, checkpoint.files)
        try:
            wanted.key.verify(seal, text)
        except EvidenceError:
            raise EvidenceError(
                f"the list of files is not the one that rank {rank} signed when it wrote its own",
                where=str(checkpoint.index),
                remedy="Somebody changed the checkpoint: an older one is used if there is one.",
            ) from None
        read_checkpoint_progress(checkpoint, rank)
    if wanted.layers is None:
        return
    state = read_checkpoint_state(checkpoint, rank)
    where = f"{checkpoint.folder / segment_checkpoint_name(rank)}, written by rank {rank}"
    # A rank that diverged or lied may have saved it; an older one can still be honest.
    check_state_finite(state, step=checkpoint.step)
    check_state_fits(state, wanted.layers, where=where)


def read_checkpoint_progress(checkpoint: RunCheckpoint, rank: int) -> StageProgress:
    """Return what the checkpoint holds of the stage it lies in, for one rank."""
    name = rank_checkpoint_name(rank)
    where = f"{checkpoint.folder / name}, written by rank {rank}"
    content = read_checkpoint_file(checkpoint, name)
    return StageProgress.unpack_progress(
        unpack_safetensors(content, where=where),
        unpack_safetensors_texts(content, where=where),
        where=where,
    )


def read_checkpoint_state(checkpoint: RunCheckpoint, rank: int) -> dict[str, Tensor]:
    """Return the tensors of the segment of one rank."""
    name = segment_checkpoint_name(rank)
    where = f"{checkpoint.folder / name}, written by rank {rank}"
    return unpack_safetensors(read_checkpoint_file(checkpoint, name), where=where)
