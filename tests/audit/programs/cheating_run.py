"""cheating_run.py STEP ARGUMENTS...: the command line, with a last trainer that stops learning.

From STEP on it sends all it should and signs all it should, and leaves its weights as they are.
"""

from __future__ import annotations

import sys

from clicooper_hpc.cli import main
from clicooper_hpc.pipeline.runtime import SegmentRuntime, StepReport

FIRST = int(sys.argv.pop(1))
honest = SegmentRuntime._update


def lazy(self: SegmentRuntime, step: int, learning_rate: float, report: StepReport) -> None:
    if self.is_last and step >= FIRST:
        self._global_squared_norm(step)
    else:
        honest(self, step, learning_rate, report)


SegmentRuntime._update = lazy  # type: ignore[method-assign]
sys.exit(main())
