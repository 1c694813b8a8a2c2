"""How far a rank of a run came, in one line."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["rank_progress"]


def rank_progress(steps: pd.DataFrame | None, training: pd.DataFrame | None) -> str:
    """Return how far a rank came, from its tables ``steps`` and ``training`` (None: not there)."""
    parts = []
    if steps is not None:
        seconds = float(steps["step_s"].sum())
        parts.append(f"{len(steps)} steps")
        if seconds > 0:
            parts.append(f"{float(steps['rows'].sum()) / seconds:.1f} samples/s")
            waiting = float(steps["wait_recv_s"].sum() + steps["wait_send_s"].sum())
            parts.append(f"waiting {100 * waiting / seconds:.0f} %")
            # What the schedule, the cuts and the machine together leave unused.
            computing = float(steps["compute_s"].sum())
            parts.append(f"bubble {100 * (1 - computing / seconds):.0f} %")
    if training is not None:
        losses = training["loss"].to_numpy()
        if losses.size and np.isfinite(losses[-1]):
            parts.append(f"loss {losses[-1]:.4f}")
    return ", ".join(parts) or "nothing recorded"
