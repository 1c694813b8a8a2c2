"""What of a run no check looks at, by name: so that nobody takes it for verified."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from clicooper_hpc.runstore.checkpoints import stage_checkpoint_path
from clicooper_hpc.runstore.limits import MOST_FOLDERS
from clicooper_hpc.runstore.reader import Run
from clicooper_hpc.verification.evidence import Evidence

__all__ = ["uncovered_parts"]

#: Folders that are named as a whole, and how the names of others begin.
_WHOLE: Final = ("private", "wire")
_STEPS: Final = "step-"
#: Of every file, whatever it is.
_ALWAYS: Final = (
    "how the checked files, whose contents are covered, are stored (permissions and times; order "
    "and blanks in a header; chunks, compression, comments and unused bytes of HDF5)"
)


def uncovered_parts(run: Run, evidence: Evidence) -> list[str]:
    """Return the files that no check reads, sorted, and what of the others none compares.

    Nothing but names is read: what lies there may be anything.
    """
    covered = _covered_paths(run, evidence)
    found = list(_uncovered_names(run.folder.path, covered))
    if run.attrs.get("layout") == "single":
        found.append("rows of tables that are not marked complete")
    # First, so that no number of files hides it.
    return [_ALWAYS, *found]


def _covered_paths(run: Run, evidence: Evidence) -> set[Path]:
    folder = run.folder
    covered = {folder.index}
    if run.attrs.get("layout") != "single":
        covered |= {folder.shard(rank) for rank in run.ranks}
    segments = range(1, len(evidence.segments or ()) + 1)
    covered |= {folder.delivery / f"segment-{one:03d}.safetensors" for one in segments}
    covered |= {stage_checkpoint_path(folder.path, *place) for place in evidence.checkpoint_roots}
    return covered


def _uncovered_names(root: Path, covered: set[Path], folder: str = "") -> Iterator[str]:
    try:
        entries = sorted(os.scandir(root / folder), key=lambda one: one.name)
    except OSError:
        # Of the run folder itself the caller has to know; what cannot be listed is named whole.
        if not folder:
            raise
        yield f"{folder}/"
        return
    for entry in entries:
        path = Path(entry.path)
        name = f"{folder}/{entry.name}" if folder else entry.name
        # A link to a folder is one thing; what lies behind it is no part of the run.
        if not entry.is_dir(follow_symlinks=False):
            if path not in covered:
                yield name
        # No run nests folders so deeply: nothing below is covered, and paths have an end.
        elif name in _WHOLE or entry.name.startswith(_STEPS) or name.count("/") + 1 >= MOST_FOLDERS:
            yield f"{name}/"
        else:
            yield from _uncovered_names(root, covered, name)
