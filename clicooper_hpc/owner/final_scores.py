"""Final scores of a run, kept before they are signed.

A run may be killed between signing its results and writing them where users look. A restart then
signs nothing new: it takes the scores that were kept, if they are of the same segments.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from clicooper_hpc.errors import RunFolderError
from clicooper_hpc.owner.evaluation import CleanScores, Score
from clicooper_hpc.runstore.confusion import ConfusionMatrix
from clicooper_hpc.runstore.confusion_file import CONFUSION_FILE, write_class_figures
from clicooper_hpc.runstore.private_folder import PrivateFolder

__all__ = ["FinalScores", "keep_class_figures", "keep_final_scores"]

# Private until the run is complete. A restart looks for this name in the folder of any run.
_FILE = "ending.json"


@dataclass(frozen=True, slots=True)
class FinalScores:
    """Scores on clean and released samples, wall time in seconds, roots (hex) of the segments."""

    clean: CleanScores
    released: Score
    wall_s: float
    segments: tuple[str, ...]


def keep_class_figures(
    private: PrivateFolder, class_names: Sequence[str], confusion: ConfusionMatrix, *, run_id: str
) -> None:
    """Keep how the delivered model did class by class; errors as of `write_class_figures`."""
    write_class_figures(private.path / CONFUSION_FILE, class_names, confusion, run_id=run_id)


def keep_final_scores(private: PrivateFolder, final: FinalScores) -> FinalScores:
    """Keep the scores and return them, or return those kept before of the same segments.

    Raises
    ------
    RunFolderError
        What was kept is damaged.
    EnvironmentUnfitError
        They cannot be kept.
    """
    # Wall time and scores are signed: a second pass would sign another time for the same run.
    if _FILE in private:
        try:
            kept = _parse_scores(json.loads(private.read_secret(_FILE)))
        except (
            ValueError,
            LookupError,
            TypeError,
            AttributeError,
            ArithmeticError,
            RecursionError,
        ) as error:
            raise RunFolderError(
                f"the kept results are damaged ({error})",
                where=str(private.path / _FILE),
                remedy="Bring back the file the run wrote.",
            ) from None
        # Of other segments they are left over from a stage that was trained again.
        if kept.segments == final.segments:
            return kept
    # repr of a float reads back to the bit, and json writes repr; nan too.
    private.write_secret(_FILE, json.dumps(asdict(final)).encode())
    return final


def _parse_scores(stored: dict[str, Any]) -> FinalScores:
    clean = stored["clean"]
    parts = {name: None if clean[name] is None else _parse_score(clean[name]) for name in clean}
    model = parts.pop("model")
    if model is None:
        raise ValueError("no scores of the model")
    return FinalScores(
        clean=CleanScores(model, **parts),
        released=_parse_score(stored["released"]),
        wall_s=float(stored["wall_s"]),
        segments=tuple(map(str, stored["segments"])),
    )


def _parse_score(stored: dict[str, Any]) -> Score:
    score = Score(**stored)
    # They are signed: what is no number would be found out only then.
    if type(score.samples) is not int or not {type(score.accuracy), type(score.loss)} <= {float}:
        raise TypeError("a score is no number")
    return score
