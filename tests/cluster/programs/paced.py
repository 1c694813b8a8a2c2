"""Run clicooper with a pause before each step, so that a run lasts as long on a fast machine.

Nothing in the package knows of this; what the run computes is the same.
"""

from __future__ import annotations

import sys
import time
from typing import Any

from clicooper_hpc.cli import main
from clicooper_hpc.training.stop_token import StopToken

PAUSE_S = 0.1

pass_stop_token = StopToken.pass_stop_token


def paced(self: StopToken, *args: Any, **options: Any) -> bool:
    """Wait, then pass the token on."""
    time.sleep(PAUSE_S)
    return pass_stop_token(self, *args, **options)


if __name__ == "__main__":
    StopToken.pass_stop_token = paced  # type: ignore[method-assign]
    sys.exit(main(sys.argv[1:]))
