"""`clicooper attack --merge`: the files of all shares of a job array, put together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from clicooper_hpc.attacks.harness.figures import draw_figures
from clicooper_hpc.attacks.harness.options import AttackOptions, attack_options_target
from clicooper_hpc.attacks.harness.record import (
    order_record,
    record_exit_code,
    record_text,
)
from clicooper_hpc.attacks.harness.tasks import TaskShare, list_tasks
from clicooper_hpc.errors import ExitCode, RunFolderError
from clicooper_hpc.runstore.attack_record import (
    ATTACKS_FILE,
    AttackRecord,
    read_attack_record,
    write_attack_record,
)
from clicooper_hpc.runstore.hdf5.files import Attribute
from clicooper_hpc.runstore.whole_run import open_whole_run

__all__ = ["merge_records", "merge_shares"]

#: Attributes that parts of one whole may differ in.
_OWN = frozenset({"created", "share"})


def merge_shares(path: Path, options: AttackOptions) -> tuple[str, ExitCode]:
    """Put the files of all shares in the run folder ``path`` together into one.

    Raises
    ------
    RunFolderError
        There are no shares, one is missing, or they do not belong together.
    """
    run = open_whole_run(path)
    # Before reading: whether the result may be written is known now.
    target = attack_options_target(run, replace(options, share=TaskShare()))
    names = sorted(place.name for place in run.folder.private.glob("attacks-*-of-*.h5"))
    # Leftovers of an array of another size would be mixed in unseen.
    wholes = {name.removesuffix(".h5").rpartition("-")[2] for name in names}
    if len(wholes) != 1 or not min(wholes).isdecimal():
        raise RunFolderError(
            "there are shares of different wholes" if wholes else "there are no shares to merge",
            where=str(run.folder.path),
            remedy="Run `clicooper attack RUN --share I/N` for every I first; remove other shares.",
        )
    count = int(min(wholes))
    wanted = [TaskShare(number, count).file_name(ATTACKS_FILE) for number in range(1, count + 1)]
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
    every = list_tasks(
        str(about["attacks"]).split(", "), str(about["parties"]).split(", "), int(about["seeds"])
    )
    # As one process would have written it, whichever task ended first.
    record = order_record(record, every)
    write_attack_record(target, record)
    if options.figures is not None:
        draw_figures(record, options.figures)
    return record_text(
        record, target, as_json=options.as_json, every=options.every
    ), record_exit_code(record)


def merge_records(records: Sequence[tuple[str, AttackRecord]]) -> AttackRecord:
    """Put named parts together, in the order given.

    Raises
    ------
    RunFolderError
        Two parts are of different runs, or were made in different ways.
    """
    first_name, first = records[0]
    common = _shared_attributes(first)
    for name, record in records[1:]:
        other = _shared_attributes(record)
        # Different versions or seeds make figures that must not stand in one table.
        odd = sorted(
            key for key in common.keys() | other.keys() if common.get(key) != other.get(key)
        )
        if odd:
            raise RunFolderError(
                f"{odd[0]} is {other.get(odd[0])!r} here "
                f"and {common.get(odd[0])!r} in {first_name}",
                where=name,
                remedy="Put together only shares of one `clicooper attack`.",
            )
    return AttackRecord(
        {**common, "created": max(str(record.attributes["created"]) for _, record in records)},
        [row for _, record in records for row in record.findings],
        {key: values for _, record in records for key, values in record.arrays.items()},
    )


def _shared_attributes(record: AttackRecord) -> dict[str, Attribute]:
    return {name: value for name, value in record.attributes.items() if name not in _OWN}
