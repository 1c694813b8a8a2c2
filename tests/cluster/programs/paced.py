"""Run clicooper with a pause before each step, so that a run lasts as long on a fast machine.

Nothing in the package knows of this; what the run computes is the same. With UNPLANNED in the
environment `clicooper plan`, which takes as long as a short start, does nothing.
"""

from __future__ import annotations

import os
import sys
import time
from typing import Any

from clicooper_hpc.cli import main

PAUSE_S = 0.1


def pace() -> None:
    """Let every step of this rank wait first."""
    # Imported here: the commands that train nothing load no torch.
    from clicooper_hpc.training.stop_token import StopToken

    pass_stop_token = StopToken.pass_stop_token

    def paced(self: StopToken, *args: Any, **options: Any) -> bool:
        time.sleep(PAUSE_S)
        return pass_stop_token(self, *args, **options)

    StopToken.pass_stop_token = paced  # type: ignore[method-assign]


def run_main() -> int:
    """Run the command, paced if it trains, and after it has begun to listen for signals."""
    if sys.argv[1:2] == ["plan"] and "UNPLANNED" in os.environ:
        return 0
    from clicooper_hpc.run import stop_requests

    begin = stop_requests.StopRequests.__init__

    def begin_paced(self: stop_requests.StopRequests) -> None:
        begin(self)
        pace()

    stop_requests.StopRequests.__init__ = begin_paced  # type: ignore[method-assign]
    return main(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(run_main())
