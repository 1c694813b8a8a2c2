"""`clicooper inspect`: what a run folder holds, alone or beside another run's."""

from __future__ import annotations

import argparse
import contextlib
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from clicooper_hpc.commands.command import (
    Command,
    add_json_option,
    print_facts,
    print_report,
)
from clicooper_hpc.errors import ExitCode, RunFolderError

if TYPE_CHECKING:
    from clicooper_hpc.runstore.reader import Run

__all__ = ["INSPECT", "inspect_facts", "inspect_text"]

#: Entries of ``run.privacy`` that are the card as text.
_CARD_TEXTS = ("text", "promised")
#: Root attributes that stand in the facts under other names.
_SHOWN_ELSEWHERE = ("resolved_job", "status")


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
    add_json_option(parser)


def _inspect(arguments: argparse.Namespace) -> int:
    if arguments.json:
        facts, code = inspect_facts(
            arguments.run, beside=arguments.beside, classes=arguments.classes
        )
        return print_facts(facts, code)
    text, code = inspect_text(arguments.run, beside=arguments.beside, classes=arguments.classes)
    return print_report(text, code)


def inspect_facts(
    path: Path, *, beside: Sequence[Path] = (), classes: bool = False
) -> tuple[dict[str, object], ExitCode]:
    """Return the same as JSON values; ``classes`` and the code as `inspect_text`."""
    run, others, code, saved = _open_runs(path, beside, whole=True)
    facts: dict[str, object] = {**_run_facts(run, classes), "saved_step": saved}
    if others:
        facts["beside"] = [
            {**_run_facts(other, classes), "differences": _difference_facts(run, other)}
            for other in others
        ]
    return {**facts, "exit_code": int(code)}, code


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

    run, others, code, saved = _open_runs(path, beside)
    lines = [run.summary()]
    if classes:
        for one in [run, *others]:
            whose = [f"{one.folder.title}:"] if others else []
            lines += ["", *whose, *class_lines(read_class_figures(one))]
    if others:
        lines += ["", *_comparison([run, *others])]
    if saved is not None:
        lines += ["", f"saved by all ranks after {saved} steps, to be started again"]
    lines += ["", *_how_to_open(run, path)]
    return "\n".join(lines), code


def _open_runs(
    path: Path, beside: Sequence[Path], *, whole: bool = False
) -> tuple[Run, list[Run], ExitCode, int | None]:
    """Return the runs, the exit code, and after which step all ranks of the one run have saved."""
    from clicooper_hpc.runstore.reader import open_run
    from clicooper_hpc.runstore.saved_marker import read_saved_step
    from clicooper_hpc.runstore.whole_run import open_whole_run

    run = open_whole_run(path) if beside or whole else open_run(path)
    others = [open_whole_run(other) for other in beside]
    code, saved = ExitCode.USAGE, None
    if not run.hosts and not others:
        # The file of one rank says nothing of a run that ended or not.
        return run, others, ExitCode.DONE, None
    if all(each.status == "complete" for each in [run, *others]):
        code = ExitCode.DONE
    elif not others:
        saved = read_saved_step(run.folder, str(run.attrs["run_id"]))
        if saved is not None:
            code = ExitCode.REQUEUE
    return run, others, code, saved


def _run_facts(run: Run, classes: bool) -> dict[str, object]:
    card = {name: value for name, value in run.privacy.items() if name not in _CARD_TEXTS}
    return {
        "folder": str(run.folder.path),
        "status": run.status,
        **{name: value for name, value in run.attrs.items() if name not in _SHOWN_ELSEWHERE},
        "job": run.job,
        "ranks": [_rank_facts(run, rank) for rank in run.ranks],
        "results": {
            name: {"value": value, "units": run.result_units[name]}
            for name, value in run.results.items()
        },
        "privacy": card,
        "privacy_card": run.privacy.get("text"),
        **({"by_class": _class_facts(run)} if classes else {}),
    }


def _class_facts(run: Run) -> dict[str, object] | None:
    from clicooper_hpc.runstore.confusion_file import read_class_figures

    figures = read_class_figures(run)
    if figures is None:
        return None
    confusion = figures.confusion
    return {
        "class_names": figures.class_names,
        "confusion": confusion.counts.tolist(),
        "recall": confusion.recalls.tolist(),
        "precision": confusion.precisions.tolist(),
        "balanced_accuracy": confusion.balanced_accuracy,
        "majority_share": confusion.majority_share,
        "chance": confusion.chance,
    }


def _rank_facts(run: Run, rank: int) -> dict[str, object]:
    from clicooper_hpc.runstore.run_display import rank_figures

    facts: dict[str, object] = {"rank": rank, "host": run.hosts[rank], "file": "read"}
    if rank in run.missing_ranks:
        return {**facts, "file": "missing"}
    try:
        names = run.table_names(rank)
        read = (run.table(one, rank) if one in names else None for one in ("steps", "training"))
        return {**facts, **rank_figures(*read)}
    except RunFolderError as error:
        return {**facts, "file": "unreadable", "error": error.what}


def _difference_facts(run: Run, other: Run) -> list[dict[str, object]]:
    return [
        {"key": key, "here": mine, "there": theirs}
        for key, mine, theirs in _job_differences(run, other)
    ]


def _job_differences(run: Run, other: Run) -> list[tuple[str, object, object]]:
    """Return keys at which jobs differ, with both values; RunFolderError if they are no jobs."""
    try:
        return _differences(run.job, other.job)
    except RecursionError:
        raise RunFolderError(
            "the jobs of these runs are too deeply nested to be compared",
            where=", ".join(str(one.folder.index) for one in (run, other)),
            remedy="Bring back the files the runs wrote.",
        ) from None


def _comparison(runs: Sequence[Run]) -> list[str]:
    """Return the results of runs side by side, and where their jobs differ from the first."""
    # Only results all runs have: a run without privacy has no epsilon to show beside.
    names = [name for name in runs[0].results if all(name in run.results for run in runs)]
    width = max((len(name) for name in names), default=0)
    titles = [run.folder.title for run in runs]
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
            f"{other.folder.title}: {key} = {theirs!r} instead of {mine!r}"
            for key, mine, theirs in _job_differences(runs[0], other)
        ]
    return [*lines, *_compared(runs)]


def _compared(runs: Sequence[Run]) -> Iterator[str]:
    """Yield whether each other run is better than the first, as far as test samples tell."""
    from clicooper_hpc.owner.explained_results import compare_accuracies

    first, *others = [
        (run.folder.title, figures if _is_accuracy(figures) else None)
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


def _how_to_open(run: Run, path: Path) -> list[str]:
    # As it was typed: that has just led to the run, from where the user stands. A literal of
    # Python in one word of the shell: a folder's name may be any text.
    place = ascii(str(path))
    if '"' not in place:
        place = f'"{place[1:-1]}"'
    code = f"import clicooper_hpc as c; r = c.open_run({place}); print({_first_look(run)})"
    file = run.folder.index if run.hosts else path
    return [f"HDF5: {file}", f"open it: python -c {shlex.quote(code)}"]


def _first_look(run: Run) -> str:
    """Return an expression on the run ``r`` that shows something, whatever files are missing."""
    there = [rank for rank in run.ranks if rank not in run.missing_ranks]
    for rank in reversed(there):
        # What is no table to be read is told in the summary.
        with contextlib.suppress(RunFolderError):
            if "training" in run.table_names(rank):
                return f'r.table("training", rank={rank}).tail()'
    return "r.summary()"


INSPECT = Command("inspect", "summarise a run folder", _add_inspect_options, _inspect, guarded=True)
