"""What a run tells of itself in some lines of text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from clicooper_hpc.errors import RunFolderError
from clicooper_hpc.printable import printable_lines, printable_text
from clicooper_hpc.runstore.tables.schema import STEPS, TRAINING

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["rank_figures", "rank_progress", "run_summary"]


def rank_progress(steps: pd.DataFrame | None, training: pd.DataFrame | None) -> str:
    """Return how far a rank came, from its tables ``steps`` and ``training`` (None: not there)."""
    figures = rank_figures(steps, training)
    words = {
        "steps": "{:.0f} steps",
        "samples_per_s": "{:.1f} samples/s",
        "waiting": "waiting {:.0%}",
        "bubble": "bubble {:.0%}",
        "loss": "loss {:.4f}",
    }
    parts = [words[name].format(value).replace("%", " %") for name, value in figures.items()]
    return ", ".join(parts) or "nothing recorded"


def rank_figures(steps: pd.DataFrame | None, training: pd.DataFrame | None) -> dict[str, float]:
    """Return the same as numbers, as far as there are any.

    ``steps``; ``samples_per_s``; ``waiting`` and ``bubble``, shares of the time in steps;
    ``loss``, that of the last step.
    """
    found: dict[str, float] = {}
    if steps is not None:
        seconds = float(steps["step_s"].sum())
        found["steps"] = len(steps)
        if seconds > 0:
            found["samples_per_s"] = float(steps["rows"].sum()) / seconds
            waiting = float(steps["wait_recv_s"].sum() + steps["wait_send_s"].sum())
            found["waiting"] = waiting / seconds
            # What the schedule, the cuts and the machine together leave unused.
            found["bubble"] = 1 - float(steps["compute_s"].sum()) / seconds
    if training is not None:
        losses = training["loss"].to_numpy()
        if losses.size and np.isfinite(losses[-1]):
            found["loss"] = float(losses[-1])
    return found


def run_summary(run: Any) -> str:
    """Return what the summary of a `Run` says; not imported, for that imports this."""
    if not run.hosts:
        rank = run.ranks[0]
        lines = [
            f"{run.folder.path}: the file of rank {rank} alone",
            f"run {run.attrs['run_id']}",
            f"rank {rank}: {_progress(run, rank)}",
        ]
        return printable_lines("\n".join(lines))
    attrs = {
        name: printable_text(value) if isinstance(value, str) else value
        for name, value in run.attrs.items()
    }
    trainers = len(run.ranks) - 1
    hosts = len(set(run.hosts))
    lines = [
        f"{run.folder.path}: {run.status}",
        f"run {attrs['run_id']}, created {attrs['created']}, "
        f"clicooper-hpc {attrs['creator_version']}",
        f"1 owner, {trainers} trainer{'s' * (trainers != 1)}, "
        f"{hosts} host{'s' * (hosts != 1)}, layout {attrs['layout']}",
    ]
    if restarts := int(attrs.get("restarts", 0)):
        lines.append(f"started again {restarts} time{'s' * (restarts != 1)}")
    missing = run.missing_ranks
    lines += [f"rank {rank}: {_progress(run, rank)}" for rank in run.ranks if rank not in missing]
    lines += [f"rank {rank}: {run.folder.shard(rank).name} IS MISSING" for rank in missing]
    for name, value in run.results.items():
        units = run.result_units[name]
        shown = f"{value:.6g}" if isinstance(value, float) else str(value)
        units = f" {units}" if units not in {"1", "text"} else ""
        lines.append(printable_text(f"{name}: {shown}{units}"))
    if "text" in run.privacy:
        lines += [
            "privacy card:",
            # Indented: no line of it passes for one of the summary.
            *(f"  {line}" for line in str(run.privacy["text"]).splitlines()),
        ]
    return printable_lines("\n".join(lines))


def _progress(run: Any, rank: int) -> str:
    try:
        names = run.table_names(rank)
    except RunFolderError as error:
        return printable_text(f"UNREADABLE ({error.what})")
    read = (
        run.table(table.name, rank) if table.name in names else None for table in (STEPS, TRAINING)
    )
    return rank_progress(*read)
