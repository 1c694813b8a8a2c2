"""Accuracy against leak over noise, cuts and dimensions: runs, attacks, docs/frontier.md.

    python bench/frontier.py                      # everything: an hour or more
    python bench/frontier.py --only-table         # from the runs that are there

The points stand in frontier.toml beside this file. What is there already, from the same settings,
is not done again; RUNS/log.jsonl holds every command with date, seconds and exit code.
"""

from __future__ import annotations

import argparse
import string
import sys
from collections.abc import Sequence
from pathlib import Path

from frontier_figure import draw
from frontier_points import Point, points_table, read_points
from paper_page import head
from paper_read import Measured, read_measured
from paper_runs import Runner, logged

from clicooper_hpc.errors import ClicooperError, RunFolderError

HERE = Path(__file__).parent


def main() -> int:
    """Run, attack, write the page and the figure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--points", type=Path, default=HERE / "frontier.toml", metavar="FILE.toml")
    parser.add_argument("--releases", nargs="+", default=[], metavar="NAME", help="these alone")
    parser.add_argument("--scale", type=float, metavar="X", help="attacks' strength")
    parser.add_argument("--runs", type=Path, default=Path("runs/frontier"), metavar="RUNS")
    parser.add_argument("--output", type=Path, default=Path("docs/frontier.md"), metavar="FILE.md")
    parser.add_argument("--only-table", action="store_true", help="start nothing")
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="of each rank")
    parser.add_argument("--processes", type=int, default=1, metavar="N", help="runs at a time")
    given = parser.parse_args()
    points = read_points(given.points, scale=given.scale, only=given.releases)
    runner = Runner(given.runs, processes=given.processes, threads=given.threads)
    if not given.only_table:
        runner.carry_out([point.planned for point in points])
    read = [(point, read_measured(given.runs / point.planned.name)) for point in points]
    found = [(point, measured) for point, measured in read if measured is not None]
    if not found:
        raise RunFolderError(
            "no point is measured, so there is nothing to draw", where=str(given.runs)
        )
    figure = given.output.parent / "figures" / "frontier.png"
    figure.parent.mkdir(parents=True, exist_ok=True)
    draw(found, figure)
    given.output.write_text(_page(found, figure.name, given.runs))
    print(f"wrote {given.output} and {figure}: {len(found)} of {len(points)} points")
    for command in runner.failed:
        print(f"FAILED: {command}", file=sys.stderr)
    return 1 if runner.failed else 0


def _page(found: Sequence[tuple[Point, Measured]], figure: str, runs: Path) -> str:
    log = logged(runs)
    lines = []
    for point, _ in found:
        for step in ("run", "attack"):
            if (point.planned.name, step) in log:
                one = log[point.planned.name, step]
                lines.append(f"# {one['seconds']:.0f} s, {one['date'][:10]}\n{one['command']}")
    scales = sorted({measured.scale for _, measured in found if measured.lines})
    template = string.Template((HERE / "frontier.md.in").read_text())
    return template.substitute(
        scale=" and ".join(f"{scale:g}" for scale in scales) or "-",
        head=head({}),
        figure=figure,
        table=points_table(found),
        commands="```\n" + "\n".join(lines) + "\n```" if lines else "None recorded.",
    )


if __name__ == "__main__":
    try:
        sys.exit(main())
    except ClicooperError as error:
        print(f"{Path(__file__).name}: {error.line()}", file=sys.stderr)
        sys.exit(int(error.exit_code))
