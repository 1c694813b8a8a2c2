"""`clicooper inspect`: what a run folder holds, alone or beside another run's."""

from __future__ import annotations

from pathlib import Path

from clicooper_hpc.errors import ExitCode
from clicooper_hpc.runstore.reader import Run, open_run

__all__ = ["inspect_text"]


def inspect_text(path: Path, *, beside: Path | None) -> tuple[str, ExitCode]:
    """Return the summary of a run, and `ExitCode.USAGE` unless every run named is complete."""
    run = open_run(path)
    lines = [run.summary()]
    complete = run.status == "complete"
    if beside is not None:
        other = open_run(beside)
        complete = complete and other.status == "complete"
        lines += ["", *_comparison(run, other)]
    lines += ["", *_how_to_open(run)]
    return "\n".join(lines), ExitCode.DONE if complete else ExitCode.USAGE


def _comparison(run: Run, other: Run) -> list[str]:
    """Return the results of two runs side by side, and what their jobs do not share."""
    names = [name for name in run.results if name in other.results]
    width = max((len(name) for name in names), default=0)
    left, right = run.folder.path.name, other.folder.path.name
    columns = max(12, len(left), len(right))
    lines = [f"{'':<{width}}  {left:>{columns}}  {right:>{columns}}"]
    for name in names:
        values = [_shown(name, source.results[name]) for source in (run, other)]
        lines.append(f"{name:<{width}}  {values[0]:>{columns}}  {values[1]:>{columns}}")
    lines += [
        f"{key}: {mine!r} against {theirs!r}"
        for key, mine, theirs in _differences(run.job, other.job)
    ]
    return lines


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
    folder = run.folder.path
    return [
        f"HDF5: {run.folder.index}",
        f"open it: python -c \"import clicooper_hpc as c; r = c.open_run('{folder}'); "
        "print(r.table('training', rank=r.ranks[-1]).tail())\"",
    ]
