"""Checkpoints of a run: where the state for a restart lies, and how it gets there whole.

``checkpoints/step-00000123/`` is what all ranks know after 123 steps: ``segment-001.safetensors``,
the state of a segment, and ``rank-001.safetensors``, what else its rank remembers. ``index.json``
is written last, with the digest of every file: a folder without it is not whole.
``checkpoints/stage-00002/segment-001.safetensors`` is the state after a stage, kept for audits.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clicooper_hpc.errors import EnvironmentUnfitError, RunFolderError
from clicooper_hpc.runstore.atomic_files import replace_atomically

__all__ = [
    "FileDigest",
    "RunCheckpoint",
    "checkpoint_index_path",
    "commit_checkpoint",
    "drop_newer_checkpoints",
    "find_checkpoints",
    "keep_stage_checkpoint",
    "rank_checkpoint_name",
    "read_checkpoint_file",
    "segment_checkpoint_name",
    "stage_checkpoint_path",
    "store_checkpoint_file",
]

_FORMAT, _VERSION = "clicooper-checkpoint", 1
_INDEX = "index.json"
# Eight digits, so that names sort like numbers; more only behind step 99,999,999.
_STEP = re.compile(r"step-(\d{8,})")


@dataclass(frozen=True, slots=True)
class FileDigest:
    """Length in bytes and SHA-256 (hex) of a file."""

    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class RunCheckpoint:
    """A checkpoint whose index is there and sound; its files may still be damaged.

    ``step`` is the number of steps done; ``files`` are those in ``folder``, by name.
    """

    folder: Path
    run_id: str
    step: int
    files: Mapping[str, FileDigest]


def stage_checkpoint_path(run: Path, stage: int, segment: int) -> Path:
    """Return the safetensors file of ``segment`` (from 1) after ``stage`` (from 0)."""
    return run / "checkpoints" / f"stage-{stage:05d}" / segment_checkpoint_name(segment)


def segment_checkpoint_name(segment: int) -> str:
    """Return the name of the file with the state of ``segment`` (from 1)."""
    return f"segment-{segment:03d}.safetensors"


def rank_checkpoint_name(rank: int) -> str:
    """Return the name of the file with what else ``rank`` remembers."""
    return f"rank-{rank:03d}.safetensors"


def checkpoint_index_path(run: Path, step: int) -> Path:
    """Return the file that makes the checkpoint after ``step`` steps whole."""
    return _step_checkpoint_folder(run, step) / _INDEX


def _step_checkpoint_folder(run: Path, step: int) -> Path:
    return run / "checkpoints" / f"step-{step:08d}"


def store_checkpoint_file(run: Path, step: int, name: str, content: bytes) -> FileDigest:
    """Write one file of the checkpoint after ``step`` steps: aside, fsynced, renamed.

    Raises
    ------
    EnvironmentUnfitError
        It cannot be written; what older checkpoints hold is untouched.
    """
    _write_checkpoint_file(_step_checkpoint_folder(run, step) / name, content)
    return FileDigest(len(content), hashlib.sha256(content).hexdigest())


def keep_stage_checkpoint(
    run: Path, *, stage: int, segment: int, step: int, content: bytes
) -> None:
    """Keep the state of a segment after a stage for audits, in no more space where that can be.

    ``content`` is the segment's state; the checkpoint after ``step`` steps may hold it already.

    Raises
    ------
    EnvironmentUnfitError
        It cannot be written.
    """
    path, stored = (
        stage_checkpoint_path(run, stage, segment),
        _step_checkpoint_folder(run, step) / segment_checkpoint_name(segment),
    )
    # A file system without hard links gets a copy instead.
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and path.samefile(stored):
            return
        # A hard link costs no space: the checkpoint of this very step holds the same state.
        if stored.stat().st_size == len(content):
            with replace_atomically(path) as aside:
                os.link(stored, aside)
            return
    _write_checkpoint_file(path, content)


def commit_checkpoint(
    run: Path, *, run_id: str, step: int, files: Mapping[str, FileDigest], keep: int
) -> None:
    """Make the checkpoint after ``step`` steps whole, then remove all but the newest ``keep``.

    For one rank, once it knows that all files lie there.

    Raises
    ------
    EnvironmentUnfitError
        The index cannot be written.
    """
    content: dict[str, Any] = {
        "format": _FORMAT,
        "version": _VERSION,
        "run_id": run_id,
        "step": step,
        "files": {name: [one.size, one.sha256] for name, one in sorted(files.items())},
    }
    # The index vouches for the files; this is for the index itself, cut short or edited.
    content["sha256"] = _checkpoint_index_digest(content)
    folder = _step_checkpoint_folder(run, step)
    _write_checkpoint_file(folder / _INDEX, json.dumps(content, indent=1).encode())
    older = [one.folder for one in find_checkpoints(run) if one.step <= step]
    # After the new index is whole: at every moment there is a checkpoint to restart from.
    _prune_checkpoints(run / "checkpoints", spared={*older[:keep], folder}, upto=step)


def find_checkpoints(run: Path) -> list[RunCheckpoint]:
    """Return the checkpoints of a run that have a sound index, newest first."""
    found = []
    for folder in _step_checkpoint_folders(run / "checkpoints"):
        # Half-written or edited: then there is an older one, so no error here.
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            found.append(_read_checkpoint_index(folder))
    return sorted(found, key=lambda one: -one.step)


def drop_newer_checkpoints(run: Path, step: int) -> None:
    """Invalidate checkpoints after more than ``step`` steps: their indexes, so that none is whole.

    Raises
    ------
    EnvironmentUnfitError
        An index cannot be removed.
    """
    for folder in _step_checkpoint_folders(run / "checkpoints"):
        if int(folder.name.removeprefix("step-")) > step:
            try:
                # Only the index: without it no restart takes the folder; a later prune removes it.
                (folder / _INDEX).unlink(missing_ok=True)
            except OSError as error:
                raise EnvironmentUnfitError(
                    f"an old checkpoint cannot be removed ({error.strerror})",
                    where=str(folder),
                    remedy="Make the run folder writable.",
                ) from error


def read_checkpoint_file(checkpoint: RunCheckpoint, name: str) -> bytes:
    """Return the content of one file of a checkpoint.

    Raises
    ------
    RunFolderError
        It is missing or not the file that was written.
    """
    path = checkpoint.folder / name
    try:
        content = path.read_bytes()
    except OSError as error:
        raise _damaged_checkpoint(path, error.strerror or "cannot be read") from error
    wanted = checkpoint.files.get(name)
    if wanted is None:
        raise _damaged_checkpoint(path, "not in the index")
    if FileDigest(len(content), hashlib.sha256(content).hexdigest()) != wanted:
        raise _damaged_checkpoint(path, "its digest is not the one in the index")
    return content


def _damaged_checkpoint(path: Path, reason: str) -> RunFolderError:
    return RunFolderError(
        f"the checkpoint is damaged ({reason})",
        where=str(path),
        remedy="An older one is used if there is one.",
    )


def _write_checkpoint_file(path: Path, content: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replace_atomically(path) as aside:
            aside.write_bytes(content)
    except OSError as error:
        raise EnvironmentUnfitError(
            f"the checkpoint cannot be written ({error.strerror})",
            where=str(path),
            remedy="Free space on the file system of the run, then `clicooper resume`; to need "
            "less, set checkpoint.keep = 1 or provenance.keep_checkpoints = false.",
        ) from error


def _read_checkpoint_index(folder: Path) -> RunCheckpoint:
    content = json.loads((folder / _INDEX).read_text(encoding="utf-8"))
    digest = content.pop("sha256")
    if (content["format"], content["version"], digest) != (
        _FORMAT,
        _VERSION,
        _checkpoint_index_digest(content),
    ):
        raise ValueError("no index of this version, or a changed one")
    files = {
        str(name): FileDigest(int(size), str(file_digest))
        for name, (size, file_digest) in content["files"].items()
    }
    # A folder copied under another name would restart the run at a wrong step.
    if folder.name != _step_checkpoint_folder(folder.parent.parent, int(content["step"])).name:
        raise ValueError("the index belongs to another folder")
    return RunCheckpoint(folder, str(content["run_id"]), int(content["step"]), files)


def _checkpoint_index_digest(content: Mapping[str, Any]) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _step_checkpoint_folders(folder: Path) -> Iterable[Path]:
    if not folder.is_dir():
        return []
    return [one for one in sorted(folder.iterdir()) if _STEP.fullmatch(one.name) and one.is_dir()]


def _prune_checkpoints(checkpoints: Path, *, spared: set[Path], upto: int) -> None:
    """Remove older folders, whole or not; what cannot be removed only takes space."""
    for folder in _step_checkpoint_folders(checkpoints):
        if folder in spared or int(folder.name.removeprefix("step-")) > upto:
            continue
        with contextlib.suppress(OSError):
            # The index first: a folder half removed must not look whole.
            (folder / _INDEX).unlink(missing_ok=True)
            for file in folder.iterdir():
                file.unlink()
            folder.rmdir()
