"""A run in a few lines of text."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from clicooper_hpc.errors import RunFolderError
from clicooper_hpc.runstore.tables.schema import STEPS, TRAINING

if TYPE_CHECKING:
    from clicooper_hpc.runstore.reader import Run

__all__ = ["summarise"]


def summarise(run: Run) -> str:
    """Return what ran, how far each rank came, and what it gave; see `Run.summary`."""
    attrs = run.attrs
    trainers = len(run.ranks) - 1
    hosts = len(set(run.hosts))
    lines = [
        f"{run.folder.path}: {run.status}",
        f"run {attrs['run_id']}, created {attrs['created']}, "
        f"clicooper-hpc {attrs['creator_version']}",
        f"1 owner, {trainers} trainer{'s' * (trainers != 1)}, {hosts} host{'s' * (hosts != 1)}, "
        f"layout {attrs['layout']}",
    ]
    if restarts := int(attrs.get("restarts", 0)):
        lines.append(f"started again {restarts} time{'s' * (restarts != 1)}")
    missing = run.missing_ranks
    lines += [f"rank {rank}: {_progress(run, rank)}" for rank in run.ranks if rank not in missing]
    lines += [f"rank {rank}: {run.folder.shard(rank).name} IS MISSING" for rank in missing]
    for name, value in run.results.items():
        units = run.result_units[name]
        shown = f"{value:.6g}" if isinstance(value, float) else str(value)
        lines.append(f"{name}: {shown}" + (f" {units}" if units not in {"1", "text"} else ""))
    if "text" in run.privacy:
        lines += ["privacy card:", *(f"  {line}" for line in str(run.privacy["text"]).splitlines())]
    return "\n".join(lines)


def _progress(run: Run, rank: int) -> str:
    try:
        names = run.table_names(rank)
    except RunFolderError as error:
        return f"UNREADABLE ({error.what})"
    parts = []
    if STEPS.name in names:
        steps = run.table(STEPS.name, rank)
        seconds = float(steps["step_s"].sum())
        parts.append(f"{len(steps)} steps")
        if seconds > 0:
            parts.append(f"{float(steps['rows'].sum()) / seconds:.1f} samples/s")
            waiting = float(steps["wait_recv_s"].sum() + steps["wait_send_s"].sum())
            parts.append(f"waiting {100 * waiting / seconds:.0f} %")
            # What the schedule, the cuts and the machine together leave unused.
            computing = float(steps["compute_s"].sum())
            parts.append(f"bubble {100 * (1 - computing / seconds):.0f} %")
    if TRAINING.name in names:
        losses = run.table(TRAINING.name, rank)["loss"].to_numpy()
        if losses.size and np.isfinite(losses[-1]):
            parts.append(f"loss {losses[-1]:.4f}")
    return ", ".join(parts) or "nothing recorded"
