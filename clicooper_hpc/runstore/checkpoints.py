"""Where the state of every segment after every stage lies, and how it gets there whole."""

from __future__ import annotations

from pathlib import Path

from clicooper_hpc.errors import EnvironmentUnfitError
from clicooper_hpc.runstore.files import replacing

__all__ = ["checkpoint_file", "write_checkpoint"]


def checkpoint_file(run: Path, stage: int, segment: int) -> Path:
    """Return the safetensors file of ``segment`` (from 1) after ``stage`` (from 0)."""
    return run / "checkpoints" / f"stage-{stage:05d}" / f"segment-{segment:03d}.safetensors"


def write_checkpoint(path: Path, content: bytes) -> None:
    """Write a checkpoint: aside, fsynced, renamed.

    Raises
    ------
    EnvironmentUnfitError
        It cannot be written; an older file of that name is untouched.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as aside:
            aside.write_bytes(content)
    except OSError as error:
        raise EnvironmentUnfitError(
            f"the checkpoint cannot be written ({error.strerror})",
            where=str(path),
            remedy="Free space on the file system of the run, or set "
            "provenance.keep_checkpoints = false.",
        ) from error
