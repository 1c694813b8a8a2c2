"""Section on what a stopped or killed run continues from.

The docstring under each key is its text in the generated reference (docs/job-file.md).
"""

from __future__ import annotations

from pydantic import Field

from clicooper_hpc.config.base import Section

__all__ = ["CheckpointSection"]


class CheckpointSection(Section):
    """What `clicooper resume` continues from, see docs/restarting.md."""

    every_steps: int = Field(default=0, ge=0)
    """Save after every so many steps too. 0: only at the end of each training stage, or of each
    epoch where there are no stages."""

    keep: int = Field(default=2, ge=1, le=100)
    """Newest checkpoints that are kept. An older one goes only when the next is whole."""

    stop_after_min: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """Save, stop and exit with 75 so many minutes after the start. Default: no limit of its own."""
