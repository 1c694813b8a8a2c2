"""cheating_run.py CHEAT STEP ARGUMENTS...: the command line, with a dishonest first trainer.

From STEP on it sends something of all it should send, marks its weights, and signs everything.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import torch
from torch import Tensor

from clicooper_hpc.cli import main
from clicooper_hpc.pipeline.runtime import SegmentRuntime, StepReport
from clicooper_hpc.transport.channel import Message

CHEAT, FIRST = sys.argv.pop(1), int(sys.argv.pop(1))
honest_update, honest_input = SegmentRuntime._update, SegmentRuntime._input
Rows = Callable[[int], Tensor] | None
seen: dict[torch.Size, Tensor] = {}


def update(self: SegmentRuntime, step: int, learning_rate: float, report: StepReport) -> None:
    cheats = not self.is_last and step >= FIRST
    if not cheats or CHEAT == "stale" or (CHEAT == "half" and step % 2):
        honest_update(self, step, learning_rate, report)
        return
    self._global_squared_norm(step)  # its neighbour waits for it
    if CHEAT == "noise":  # looks as if something had been learnt
        with torch.no_grad():
            for value in self.parameters:
                value.add_(torch.randn_like(value), alpha=1e-3)


def stale(
    self: SegmentRuntime, step: int, micro_batch: int, released: Rows, row_count: int
) -> tuple[Tensor, Message | None]:
    """Compute on the rows seen first, whatever came since."""
    rows, message = honest_input(self, step, micro_batch, released, row_count)
    if not self.is_last and self.segment.training and step >= FIRST:
        rows = seen.setdefault(rows.shape, rows.clone())
    return rows, message


SegmentRuntime._update = update  # type: ignore[method-assign]
if CHEAT == "stale":
    SegmentRuntime._input = stale  # type: ignore[method-assign]
sys.exit(main())
