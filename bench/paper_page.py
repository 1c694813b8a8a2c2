"""docs/results.md: what the runs and the attacks on them found, every figure from their folders."""

from __future__ import annotations

import os
import platform
import string
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from paper_plan import NO_MAP, OFF, Entry, Sheet, run_name
from paper_read import Measured, read_attacks, read_measured
from paper_runs import logged
from paper_table import Results, attacks, best_off, measures, overview

from clicooper_hpc.attacks.harness.figures import draw_figures
from clicooper_hpc.errors import RunFolderError

HERE = Path(__file__).parent
ROOT = HERE.parent
_LIBRARIES = ("clicooper-hpc", "torch", "numpy", "scikit-learn", "scikit-image", "mpi4py")


def page(
    sheet: Sheet,
    entries: Sequence[Entry],
    runs: Path,
    seeds: Sequence[int],
    pictures: Path,
    *,
    stale: Sequence[str] = (),
) -> str:
    """Return the page on ``entries`` of the sheet; write their pictures into a folder.

    ``stale`` names runs with other settings than are asked for now: the page says so.

    Raises
    ------
    RunFolderError
        No run is complete.
    """
    found = {entry.name: _results(sheet, entry, runs, seeds) for entry in entries}
    if not any(results.job for results in found.values()):
        raise RunFolderError("no run is complete, so there is no page to write", where=str(runs))
    parts = [_section(entry, found[entry.name], runs, pictures, seeds) for entry in entries]
    template = string.Template((HERE / "paper_results.md.in").read_text())
    return template.substitute(
        title=sheet.title,
        scope=sheet.scope,
        head=head(found, stale),
        overview=overview(found),
        entries="".join(parts),
        commands=commands(sheet, entries, runs, seeds),
    )


def _results(sheet: Sheet, entry: Entry, runs: Path, seeds: Sequence[int]) -> Results:
    def read(owner: Entry, role: str = "", off: str = "") -> dict[int, Measured]:
        # The yardstick counts at all its seeds, whichever are asked for.
        at = sheet.off_seeds if role == OFF else seeds
        found = {seed: read_measured(runs / run_name(owner.name, seed, role, off)) for seed in at}
        return {seed: one for seed, one in found.items() if one is not None}

    owner = next((one for one in sheet.entries if one.name == entry.yardstick), entry)
    return Results(
        job=read(entry),
        no_map=read(entry, NO_MAP),
        off={name: read(owner, OFF, name) for name in owner.off},
        retention=entry.retention,
    )


def head(found: Mapping[str, Results], stale: Sequence[str] = ()) -> str:
    """Return date, machine, versions, commits of page and runs, strength, and what is stale."""
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in _LIBRARIES)
    scales = {one.scale for results in found.values() for one in results.job.values() if one.lines}
    reduced = sorted(scale for scale in scales if scale != 1)
    lines = [
        f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores ({platform.machine()}), "
        f"Python {platform.python_version()}, {versions}, commit {_commit()}."
    ]
    made = {
        one.commit[:7]
        for results in found.values()
        for runs in (results.job, results.no_map, *results.off.values())
        for one in runs.values()
        if one.commit
    }
    if made:
        lines.append(f"Runs made at commit {', '.join(sorted(made))}.")
    if stale:
        lines.append(f"**Of other settings than the jobs' now: {', '.join(sorted(stale))}.**")
    if reduced:
        shown = ", ".join(f"{scale:g}" for scale in reduced)
        lines.append(f"**Attacks of reduced strength ({shown} of the published): not final.**")
    return "\n".join(lines)


def _commit() -> str:
    def git(*words: str) -> str:
        done = subprocess.run(
            ["git", *words], cwd=ROOT, check=False, capture_output=True, text=True
        )
        return done.stdout.strip()

    changed = " with changes" if git("status", "--porcelain", "--untracked-files=no") else ""
    return (git("rev-parse", "--short", "HEAD") or "unknown") + changed


def _section(
    entry: Entry, results: Results, runs: Path, pictures: Path, seeds: Sequence[int]
) -> str:
    title = f"## {entry.title or entry.name}\n\n"
    if not results.job:
        return f"{title}`{entry.job}`: not run yet.\n\n"
    first = next(iter(results.job.values()))
    told = next((run.aux for run in results.job.values() if run.aux), "")
    aux = f" Attackers may have {told}." if told else ""
    name, _ = best_off(results)
    best = f" Best without noise: {name}." if name else ""
    made = f"{_count(len(results.job))}, {_attacked(results)}"
    text = f"{title}`{entry.job}`: {first.release}; {made}.{aux}{best}\n\n"
    text += f"{measures(results)}\n\n{attacks(results.job)}\n\n"
    broken = sorted({one for run in results.job.values() for one in run.failed})
    text += "".join(f"Broke off: {one}\n\n" for one in broken)
    return text + "".join(
        f"![{picture.replace('-', ' ')}, {entry.title}](figures/{path.name})\n\n"
        for picture, path in _pictures(entry, runs, pictures, seeds)
    )


def _attacked(results: Results) -> str:
    attacked = [run for run in results.job.values() if run.lines]
    scales = sorted({run.scale for run in attacked})
    weak = ", ".join(f"{scale:g}" for scale in scales if scale < 1)
    return f"{len(attacked)} attacked" + (f" (**strength reduced to {weak}**)" if weak else "")


def _count(seeds: int) -> str:
    return f"{seeds} seed" + "s" * (seeds != 1)


def _pictures(
    entry: Entry, runs: Path, folder: Path, seeds: Sequence[int]
) -> list[tuple[str, Path]]:
    """Draw the first seed's findings; copy what the entry names. These data sets are public."""
    run = runs / run_name(entry.name, seeds[0])
    record = read_attacks(run)
    if record is None or not entry.pictures:
        return []
    drawn = run / "private" / "figures"
    drawn.mkdir(exist_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    made = {path.stem: path for path in draw_figures(record, drawn)}
    copied = []
    for name in entry.pictures:
        if name in made:
            target = folder / f"{entry.name}-{name}.png"
            target.write_bytes(made[name].read_bytes())
            copied.append((name, target))
    return copied


def commands(sheet: Sheet, entries: Sequence[Entry], runs: Path, seeds: Sequence[int]) -> str:
    """Return the commands as they were given, seeds put together, with their mean wall time."""
    log = logged(runs)
    lines = []
    for entry in entries:
        roles = [("", ""), (NO_MAP, ""), *((OFF, name) for name in entry.off)]
        for role, off in roles:
            at = sheet.off_seeds if role == OFF else seeds
            for step in ("run", "attack"):
                names = {run_name(entry.name, seed, role, off): seed for seed in at}
                done = [log[name, step] for name in names if (name, step) in log]
                if done:
                    seed = names[done[0]["name"]]
                    text = str(done[0]["command"]).replace(f"-seed{seed}", "-seedS")
                    text = text.replace(f"training.seed={seed}", "training.seed=S")
                    which = ", ".join(str(names[line["name"]]) for line in done)
                    seconds = sum(line["seconds"] for line in done) / len(done)
                    dates = sorted({line["date"][:10] for line in done})
                    most = max(line.get("at_a_time", 1) for line in done)
                    beside = f", {most} at a time" if most > 1 else ""
                    when = ", ".join(dates)
                    lines.append(f"# S = {which}; {seconds:.0f} s each{beside}; {when}\n{text}")
    return "```\n" + "\n".join(lines) + "\n```" if lines else "None recorded."
