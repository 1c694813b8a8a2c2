"""The figures a run ends with, kept before they are signed.

A run may be killed between signing its results and writing them where users look. The later life
then signs nothing new: it takes the figures that were kept, if they are of the same segments.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from clicooper_hpc.errors import RunFolderError
from clicooper_hpc.owner.evaluation import CleanScores, Score
from clicooper_hpc.runstore.private_folder import PrivateFolder

__all__ = ["Ending", "keep_ending"]

_FILE = "ending.json"


@dataclass(frozen=True, slots=True)
class Ending:
    """Scores on clean and released samples, wall time in seconds, roots (hex) of the segments."""

    clean: CleanScores
    released: Score
    wall_s: float
    segments: tuple[str, ...]


def keep_ending(private: PrivateFolder, ending: Ending) -> Ending:
    """Keep the figures and return them, or return those kept earlier of the same segments.

    Raises
    ------
    RunFolderError
        What was kept is damaged.
    EnvironmentUnfitError
        They cannot be kept.
    """
    if _FILE in private:
        try:
            kept = _read(json.loads(private.read_secret(_FILE)))
        except (ValueError, KeyError, TypeError) as error:
            raise RunFolderError(
                f"the kept results are damaged ({error})",
                where=str(private.path / _FILE),
                remedy="Bring back the file the run wrote.",
            ) from None
        if kept.segments == ending.segments:
            return kept
    # repr of a float reads back to the bit, and json writes repr; nan too.
    private.write_secret(_FILE, json.dumps(asdict(ending)).encode())
    return ending


def _read(stored: dict[str, Any]) -> Ending:
    clean = stored["clean"]
    parts = {name: None if clean[name] is None else Score(**clean[name]) for name in clean}
    model = parts.pop("model")
    if model is None:
        raise ValueError("no scores of the model")
    return Ending(
        clean=CleanScores(model, **parts),
        released=Score(**stored["released"]),
        wall_s=float(stored["wall_s"]),
        segments=tuple(stored["segments"]),
    )
