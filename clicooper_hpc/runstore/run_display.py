"""How far a rank of a run came, in one line."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["rank_figures", "rank_progress"]


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
