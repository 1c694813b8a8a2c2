"""Whether an output would replace, or lie among, the files it is made of."""

from __future__ import annotations

import os
from pathlib import Path

from clicooper_hpc.errors import DataError, UsageError

__all__ = ["named_file", "refuse_output_in_source"]


def named_file(text: str) -> Path:
    """Return the path of a file to write as it was typed.

    Raises
    ------
    UsageError
        It ends in a slash: a `Path` forgets that, and a file would stand where a folder was meant.
    """
    if text.endswith(os.sep):
        raise UsageError(
            "ends in a slash, which names a folder", where=f"-o {text}", remedy="Name a file."
        )
    return Path(text)


def refuse_output_in_source(source: Path, target: Path) -> None:
    """Refuse a file to write that is ``source`` or, where that is a folder, lies below it.

    Whatever links lead there. Replacing it would destroy what it is made from; a new file among
    images would be taken for one of them.

    Raises
    ------
    DataError
        It is, or does.
    """
    if os.path.exists(target) and os.path.samefile(source, target):
        raise DataError(
            "is both source and target", where=str(source), remedy="Write to another file"
        )
    # The target's folder, not the target: a link that is replaced changes nothing it leads to.
    folder = Path(os.path.realpath(target.parent))
    if Path(os.path.realpath(source)) in (folder, *folder.parents):
        raise DataError(
            f"lies in the folder that is read ({source})",
            where=str(target),
            remedy="Write outside of it",
        )
