"""`clicooper inspect`: what a run folder holds, alone or beside another run's."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from clicooper_hpc.commands.command import Command, print_report
from clicooper_hpc.errors import ExitCode, RunFolderError

if TYPE_CHECKING:
    from clicooper_hpc.runstore.reader import Run

__all__ = ["INSPECT", "inspect_text"]


def _add_inspect_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=Path, metavar="RUN")
    parser.add_argument(
        "--beside",
        type=Path,
        nargs="+",
        default=[],
        metavar="OTHER",
        help="compare with other runs",
    )
    parser.add_argument(
        "--classes",
        action="store_true",
        help="also show the confusion matrix, from private/: for the owner",
    )


def _inspect(arguments: argparse.Namespace) -> int:
    text, code = inspect_text(arguments.run, beside=arguments.beside, classes=arguments.classes)
    return print_report(text, code)


def inspect_text(
    path: Path, *, beside: Sequence[Path] = (), classes: bool = False
) -> tuple[str, ExitCode]:
    """Return the summary of a run, and what scripts go by.

    ``classes``: with the confusion matrix of every run, from its private folder.

    `ExitCode.DONE` if all runs are complete, `ExitCode.REQUEUE` if ``path`` alone is asked for and
    all its ranks have saved after the same step and ended, else `ExitCode.USAGE`.
    """
    from clicooper_hpc.commands.inspect_classes import class_lines
    from clicooper_hpc.runstore.confusion_file import read_class_figures
    from clicooper_hpc.runstore.reader import open_run
    from clicooper_hpc.runstore.saved_marker import read_saved_step

    run = open_run(path)
    others = [open_run(other) for other in beside]
    lines = [run.summary()]
    if classes:
        for one in [run, *others]:
            whose = [f"{one.folder.path.name}:"] if others else []
            lines += ["", *whose, *class_lines(read_class_figures(one))]
    if others:
        try:
            lines += ["", *_comparison([run, *others])]
        except RecursionError:
            raise RunFolderError(
                "the jobs of these runs are too deeply nested to be compared",
                where=", ".join(str(one.folder.index) for one in [run, *others]),
                remedy="Bring back the files the runs wrote.",
            ) from None
    code = ExitCode.USAGE
    if all(each.status == "complete" for each in [run, *others]):
        code = ExitCode.DONE
    elif not others:
        step = read_saved_step(run.folder, str(run.attrs["run_id"]))
        if step is not None:
            code = ExitCode.REQUEUE
            lines += ["", f"saved by all ranks after {step} steps, to be started again"]
    lines += ["", *_how_to_open(run)]
    return "\n".join(lines), code


def _comparison(runs: Sequence[Run]) -> list[str]:
    """Return the results of runs side by side, and where their jobs differ from the first."""
    # Only results all runs have: a run without privacy has no epsilon to show beside.
    names = [name for name in runs[0].results if all(name in run.results for run in runs)]
    width = max((len(name) for name in names), default=0)
    titles = [run.folder.path.name for run in runs]
    table = [["", *titles]] + [
        [name, *(_shown(name, run.results[name]) for run in runs)] for name in names
    ]
    lines = [
        f"{row[0]:<{width}}"
        + "".join(
            f"  {cell:>{max(14, len(title))}}" for cell, title in zip(row[1:], titles, strict=True)
        )
        for row in table
    ]
    for other in runs[1:]:
        lines += [
            f"{other.folder.path.name}: {key} = {theirs!r} instead of {mine!r}"
            for key, mine, theirs in _differences(runs[0].job, other.job)
        ]
    return [*lines, *_compared(runs)]


def _compared(runs: Sequence[Run]) -> Iterator[str]:
    """Yield whether each other run is better than the first, as far as test samples tell."""
    from clicooper_hpc.owner.explained_results import compare_accuracies

    first, *others = [
        (run.folder.path.name, figures if _is_accuracy(figures) else None)
        for run in runs
        for figures in [_figures(run)]
    ]
    for name, theirs in others:
        if first[1] is not None and theirs is not None:
            yield compare_accuracies(first[0], first[1], name, theirs)


def _figures(run: Run) -> dict[str, float]:
    return {
        name: float(value)
        for name, value in run.results.items()
        if isinstance(value, int | float) and name in ("clean_accuracy", "clean_samples")
    }


def _is_accuracy(figures: dict[str, float]) -> bool:
    # A stranger's results may be any numbers, NaN too.
    share, samples = (figures.get(f"clean_{name}", -1.0) for name in ("accuracy", "samples"))
    return 0 <= share <= 1 and 1 <= samples < 1e9


def _shown(name: str, value: object) -> str:
    if isinstance(value, float):
        return f"{100 * value:.2f} %" if name.endswith("_accuracy") else f"{value:.4g}"
    return str(value)


def _differences(
    mine: dict[str, object], theirs: dict[str, object]
) -> list[tuple[str, object, object]]:
    found: list[tuple[str, object, object]] = []
    for key in sorted(mine.keys() | theirs.keys()):
        a, b = mine.get(key), theirs.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            found += [(f"{key}.{name}", x, y) for name, x, y in _differences(a, b)]
        elif a != b:
            found.append((key, a, b))
    return found


def _how_to_open(run: Run) -> list[str]:
    # A literal of Python in one word of the shell: a folder's name may be any text.
    folder = ascii(str(run.folder.path))
    if '"' not in folder:
        folder = f'"{folder[1:-1]}"'
    code = (
        f"import clicooper_hpc as c; r = c.open_run({folder}); "
        'print(r.table("training", rank=r.ranks[-1]).tail())'
    )
    return [f"HDF5: {run.folder.index}", f"open it: python -c {shlex.quote(code)}"]


INSPECT = Command("inspect", "summarise a run folder", _add_inspect_options, _inspect, guarded=True)
