"""`clicooper attack --merge`: the files of all shares of a job array, put together."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from clicooper_hpc.attacks.harness.figures import draw_figures
from clicooper_hpc.attacks.harness.options import AttackOptions, target_of
from clicooper_hpc.attacks.harness.record import exit_code, in_order, merge_records, told
from clicooper_hpc.attacks.harness.share import Share, cells_of
from clicooper_hpc.errors import ExitCode, RunFolderError
from clicooper_hpc.runstore.attack_record import (
    ATTACKS_FILE,
    read_attack_record,
    write_attack_record,
)
from clicooper_hpc.runstore.reader import open_run

__all__ = ["merge_shares"]


def merge_shares(path: Path, options: AttackOptions) -> tuple[str, ExitCode]:
    """Put the files of all shares in the run folder ``path`` together into one.

    Raises
    ------
    RunFolderError
        There are no shares, one is missing, or they do not belong together.
    """
    run = open_run(path)
    target = target_of(run, replace(options, share=Share()))
    names = sorted(place.name for place in run.folder.private.glob("attacks-*-of-*.h5"))
    wholes = {name.removesuffix(".h5").rpartition("-")[2] for name in names}
    if len(wholes) != 1 or not min(wholes).isdecimal():
        raise RunFolderError(
            "there are shares of different wholes" if wholes else "there are no shares to merge",
            where=str(run.folder.path),
            remedy="Run `clicooper attack RUN --share I/N` for every I first; remove other shares.",
        )
    count = int(min(wholes))
    wanted = [Share(number, count).file_name(ATTACKS_FILE) for number in range(1, count + 1)]
    missing = [name for name in wanted if name not in names]
    if missing or len(names) != count:
        raise RunFolderError(
            f"{len(missing)} of {count} shares are missing, such as {(missing or names)[0]}",
            where=str(run.folder.path),
            remedy="Run the missing shares, then merge.",
        )
    parts = [(name, read_attack_record(run.folder.private / name)) for name in wanted]
    record = merge_records(parts)
    if record.attributes["run_id"] != run.attrs["run_id"]:
        raise RunFolderError("the shares are findings on another run", where=str(run.folder.path))
    about = record.attributes
    every = cells_of(
        str(about["attacks"]).split(", "), str(about["parties"]).split(", "), int(about["seeds"])
    )
    record = in_order(record, every)
    write_attack_record(target, record)
    if options.figures is not None:
        draw_figures(record, options.figures)
    return told(record, target, as_json=options.as_json, every=options.every), exit_code(record)
