"""The paper's table, in its own metrics and in honest ones: runs, attacks, docs/results.md.

    python bench/paper.py                             # everything on rows: hours
    python bench/paper.py --jobs strict-cifar10 --seeds 0 --scale 0.1
    python bench/paper.py --only-table                # from the runs that are there
    python bench/paper.py --sheet bench/summed.toml --output docs/results-summed.md

`make paper` is the first and the last. Which runs make up a table stands in its sheet. What is
there already, from the same settings, is not done again, and a run that was killed goes on; runs
from other settings are moved to RUNS/old. RUNS/log.jsonl holds every command with date, seconds and
exit code.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from paper_page import page
from paper_plan import Entry, Sheet, chosen, planned_runs, read_sheet
from paper_runs import LAUNCHER, Runner, is_complete, part_of, run_command

from clicooper_hpc.errors import ClicooperError, UsageError

HERE = Path(__file__).parent


def main() -> int:
    """Run, attack, write the page."""
    given = _arguments()
    sheet = read_sheet(given.sheet)
    entries = chosen(sheet, given.jobs)
    there = [entry for entry in entries if entry.job.exists()]
    for entry in entries:
        if entry not in there:
            print(f"left out: {entry.job} is not there", file=sys.stderr)
    if not there:
        raise UsageError("no job is left", where="--jobs", remedy="Name entries or job files.")
    plan = planned_runs(sheet, there, given.seeds, scale=given.scale, threads=given.threads)
    log = "log.jsonl"
    if given.part is not None:
        plan = part_of(plan, given.part)
        log = f"log-{given.part.replace('/', '-of-')}.jsonl"
    if given.list:
        print("\n".join(shlex.join(run_command(one, given.runs, given.launcher)) for one in plan))
        return 0
    runner = Runner(
        given.runs,
        processes=given.processes,
        threads=given.threads,
        launcher=given.launcher,
        log=log,
    )
    if not given.only_table:
        runner.carry_out(plan)
    if given.part is None:
        stale = [
            one.name
            for one in plan
            if (given.runs / one.name).exists() and not is_complete(one, given.runs)
        ]
        for name in stale:
            print(f"other settings than the job's now: {name}", file=sys.stderr)
        _write(sheet, there, given, stale)
    for command in runner.failed:
        print(f"FAILED: {command}", file=sys.stderr)
    return 1 if runner.failed else 0


def _write(
    sheet: Sheet, entries: Sequence[Entry], given: argparse.Namespace, stale: Sequence[str]
) -> None:
    figures = given.output.parent / "figures"
    text = page(sheet, entries, given.runs, given.seeds, figures, stale=stale)
    given.output.parent.mkdir(parents=True, exist_ok=True)
    given.output.write_text(text)
    print(f"wrote {given.output}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--jobs", nargs="+", default=[], metavar="JOB", help="names of entries, or job files"
    )
    parser.add_argument("--sheet", type=Path, default=HERE / "paper.toml", metavar="FILE.toml")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], metavar="S")
    parser.add_argument("--scale", type=float, default=1.0, metavar="X", help="attacks' strength")
    parser.add_argument("--runs", type=Path, default=Path("runs/paper"), metavar="RUNS")
    parser.add_argument("--output", type=Path, default=Path("docs/results.md"), metavar="FILE.md")
    parser.add_argument("--only-table", action="store_true", help="start nothing")
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="of each rank")
    parser.add_argument("--processes", type=int, default=1, metavar="N", help="runs at a time")
    parser.add_argument("--list", action="store_true", help="print the commands of runs, no more")
    parser.add_argument(
        "--part", metavar="I/N", help="every N-th run from the I-th, no page: for job arrays"
    )
    parser.add_argument(
        "--launcher", default=LAUNCHER, metavar="WORDS", help="starts {ranks} ranks (%(default)s)"
    )
    return parser.parse_args()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except ClicooperError as error:
        print(f"{Path(__file__).name}: {error.line()}", file=sys.stderr)
        sys.exit(int(error.exit_code))
