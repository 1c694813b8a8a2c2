"""`clicooper sweep`: its options and the call."""

from __future__ import annotations

import argparse
import contextlib
import csv
import io
import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from clicooper_hpc.commands.command import Command, add_json_option, print_facts, print_report
from clicooper_hpc.errors import ClicooperError, EnvironmentUnfitError, UsageError
from clicooper_hpc.standard_streams import write_error_line

if TYPE_CHECKING:
    from clicooper_hpc.sweep.repeated_releases import RunCharge

__all__ = ["SWEEP"]


def _add_sweep_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("job", type=Path, metavar="JOB.toml")
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        required=True,
        metavar="FOLDER",
        help="folder of the runs; FOLDER.csv beside it gets one line a run",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="SECTION.KEY=VALUE,VALUE",
        help="values of one key (repeatable: all combinations); lists and texts as in TOML",
    )
    parser.add_argument(
        "--seeds", type=int, metavar="N", help="each combination N times: training.seed 0 to N - 1"
    )
    parser.add_argument(
        "--ranks", type=int, metavar="N", help="ranks of each run (default: as the job says)"
    )
    add_json_option(parser)
    parser.add_argument("-q", "--quiet", action="store_true", help="of runs only warnings")


def _sweep(arguments: argparse.Namespace) -> int:
    from clicooper_hpc.launch.find_launcher import check_no_rank, find_mpiexec
    from clicooper_hpc.launch.run_start import RunStart
    from clicooper_hpc.runstore.reader import open_run
    from clicooper_hpc.sweep.grid import combine_settings
    from clicooper_hpc.sweep.repeated_releases import (
        compose_runs,
        read_run_charge,
        run_places,
    )
    from clicooper_hpc.sweep.sweep_runs import (
        make_runs,
        plan_runs,
        sweep_exit_code,
    )
    from clicooper_hpc.sweep.sweep_table import (
        forecast_text,
        sweep_csv,
        sweep_json,
        sweep_text,
    )

    check_no_rank(os.environ)
    folder = Path(os.path.realpath(arguments.output))
    table = _table_path(folder)
    shared = RunStart(
        job=Path(os.path.abspath(arguments.job)),
        overrides=(),
        folder=folder,
        ranks=arguments.ranks,
        mpiexec=find_mpiexec(),
        quiet=arguments.quiet,
    )
    runs = plan_runs(shared, combine_settings(arguments.set, arguments.seeds))
    # Known before hours are spent: what cannot be read now cannot be added up then.
    for place in run_places(folder):
        read_run_charge(open_run(place))
    _check_places(folder, table)
    write_error_line(forecast_text(runs))
    with _as_interrupts(signal.SIGTERM, signal.SIGHUP):
        outcomes, interrupted = make_runs(runs, write_error_line)
    charges, unknown = _charges(folder)
    privacy = compose_runs(charges)
    code = sweep_exit_code(outcomes)
    try:
        made = {one.run.name for one in outcomes}
        there = {place.name for place in run_places(folder)} - made
        _write_table(table, sweep_csv(outcomes, charges, _earlier_rows(table, there)))
        write_error_line(f"wrote {table}")
    finally:
        # Also if there is no place for the table: hours may be in it.
        if arguments.json:
            print_facts(sweep_json(outcomes, charges, privacy, unknown, str(folder)), code)
        else:
            print_report(sweep_text(outcomes, privacy, unknown, str(arguments.output)), code)
    if interrupted:
        write_error_line(f"{interrupted}; the same command goes on")
        raise KeyboardInterrupt
    return code


@contextlib.contextmanager
def _as_interrupts(*signals: signal.Signals) -> Iterator[None]:
    """Do for ``signals``, but those that are ignored, what Ctrl-C does: the ranks save."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    heard = [one for one in signals if signal.getsignal(one) is not signal.SIG_IGN]
    before = [signal.signal(one, interrupt) for one in heard]
    try:
        yield
    finally:
        for one, handler in zip(heard, before, strict=True):
            signal.signal(one, handler)


def _check_places(folder: Path, table: Path) -> None:
    """Refuse a sweep whose runs or table cannot be written: known before hours are spent."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for place in (folder, table.parent):
            with tempfile.TemporaryFile(dir=place):
                pass
    except OSError as error:
        raise EnvironmentUnfitError(
            f"runs and their table cannot be written ({error.strerror})",
            where=str(folder),
            remedy="Give -o a folder on a file system you may write to and that has space.",
        ) from error


def _charges(folder: Path) -> tuple[list[RunCharge], list[str]]:
    """Return what all runs in ``folder`` have cost, of this sweep or an earlier one.

    And a line for each that does not say: a table of many runs is not lost for one of them.
    """
    from clicooper_hpc.runstore.reader import open_run
    from clicooper_hpc.sweep.repeated_releases import read_run_charge, run_places

    charges, unknown = [], []
    for place in run_places(folder):
        try:
            charges.append(read_run_charge(open_run(place)))
        except ClicooperError as error:
            unknown.append(error.line())
    return charges, unknown


def _table_path(folder: Path) -> Path:
    """Return the CSV file beside ``folder``: in it, ``FOLDER/*`` would name more than runs."""
    from clicooper_hpc.runstore.new_output import refuse_foreign_output
    from clicooper_hpc.runstore.run_folder import RunFolder
    from clicooper_hpc.sweep.sweep_table import CSV_HEADINGS

    path = folder.with_name(f"{folder.name}.csv")
    if folder.exists() and not folder.is_dir():
        raise UsageError(
            "is a file, not a folder for runs",
            where=str(folder),
            remedy="Give -o another name.",
        )
    if os.path.lexists(RunFolder(folder).index):
        raise UsageError(
            "is a run, not a folder for runs",
            where=str(folder),
            remedy="Give -o another name.",
        )
    refuse_foreign_output(path, ",".join(CSV_HEADINGS).encode(), "table of a sweep")
    return path


def _earlier_rows(path: Path, names: set[str]) -> list[dict[str, str]]:
    """Return the rows of the table in ``path`` on runs called one of ``names``."""
    from clicooper_hpc.runstore.regular_files import read_named_file

    if not names or not os.path.lexists(path):
        return []
    text = read_named_file(path).decode("utf-8", "replace")
    return [row for row in csv.DictReader(io.StringIO(text)) if row.get("run") in names]


def _write_table(path: Path, text: str) -> None:
    from clicooper_hpc.runstore.atomic_files import replace_atomically

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replace_atomically(path, foreign_folder=True) as aside:
            aside.write_text(text, encoding="utf-8")
    except OSError as error:
        raise EnvironmentUnfitError(
            f"the table cannot be written ({error.strerror}); the runs are whole", where=str(path)
        ) from error


SWEEP = Command(
    "sweep",
    "train with several values of keys, one run after the other",
    _add_sweep_options,
    _sweep,
)
