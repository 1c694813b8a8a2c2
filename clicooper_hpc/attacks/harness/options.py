"""What `clicooper attack` is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from clicooper_hpc.attacks.harness.tasks import TaskShare
from clicooper_hpc.errors import RunFolderError, UsageError
from clicooper_hpc.runstore.attack_record import ATTACKS_FILE
from clicooper_hpc.runstore.reader import Run

__all__ = ["AttackOptions", "attack_options_target"]


@dataclass(frozen=True, slots=True)
class AttackOptions:
    """What to run and where to put it.

    Parameters
    ----------
    only, parties
        Names; empty for all.
    seeds
        Each attack runs with seeds 0 to ``seeds - 1``.
    scale
        Part of the published compute, in (0, 1].
    public
        Public data set for attackers; default: the job's.
    share
        Which part of all tasks.
    output
        Default: ``attacks.h5`` in the owner's private folder, with the share in its name.
    figures
        Folder for figures, among them the owner's images beside reconstructions; none without.
    every
        Show all variants, not the strongest alone; stored are all.
    quiet
        Show no progress.
    """

    only: Sequence[str] = ()
    parties: Sequence[str] = ()
    seeds: int = 3
    scale: float = 1.0
    public: str | None = None
    share: TaskShare = field(default_factory=TaskShare)
    output: Path | None = None
    figures: Path | None = None
    overwrite: bool = False
    as_json: bool = False
    every: bool = False
    quiet: bool = False


def attack_options_target(run: Run, options: AttackOptions) -> Path:
    """Return the file to write.

    Raises
    ------
    RunFolderError
        It is there already, and may not be replaced.
    UsageError
        Its folder, or that of the figures, is not there; or pictures are in the latter already.
    """
    target = options.output or run.folder.private / options.share.file_name(ATTACKS_FILE)
    # A record may be hours of work.
    if target.exists() and not options.overwrite:
        raise RunFolderError(
            "there are findings already",
            where=str(target),
            remedy="Give another file with -o, or --overwrite.",
        )
    # Before the first attack: a missing folder must not be found out after the last.
    asked = [target.parent] if options.output is not None else []
    asked += [] if options.figures is None else [options.figures]
    for folder in asked:
        if not folder.is_dir():
            raise UsageError("there is no such folder", where=str(folder))
    if options.figures is not None and not options.overwrite:
        # Names of figures follow from the findings, so any picture may be in the way.
        there = next(options.figures.glob("*.png"), None)
        if there is not None:
            raise UsageError(
                f"there are pictures already ({there.name})",
                where=str(options.figures),
                remedy="Give an empty folder, or --overwrite.",
            )
    return target
