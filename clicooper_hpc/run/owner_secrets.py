"""Whether a run's private folder holds all that brings its released rows back."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from clicooper_hpc.errors import RunFolderError

__all__ = ["require_secrets"]

#: What must be there: preparing makes anew what is not, and charges it.
_NEEDED: Final = (
    "master.key",
    "front.json",
    "front.safetensors",
    "label-map.safetensors",
)


def require_secrets(private: Path, doing: str, *more: str) -> None:
    """Raise `RunFolderError` unless these files and ``more`` are there; ``doing``: the verb."""
    missing = [name for name in (*_NEEDED, *more) if not (private / name).is_file()]
    if missing:
        raise RunFolderError(
            "the owner's secrets are not there, and with them the released rows "
            f"({missing[0]} is missing)",
            where=str(private),
            remedy=f"{doing.capitalize()} where the owner keeps the run folder.",
        )
