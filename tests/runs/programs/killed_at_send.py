"""killed_at_send.py ARGUMENTS...: the command line, with an owner killed at the first send.

Everything is prepared, files are made and the cost is reserved; no byte about a sample has left.
"""

from __future__ import annotations

import os
import signal
import sys

from clicooper_hpc.cli import main
from clicooper_hpc.run.owner_setup import OwnerSetup


def killed(self: OwnerSetup) -> bytes:
    os.kill(os.getpid(), signal.SIGKILL)
    return b""


OwnerSetup.authorised_sub_labels = killed  # type: ignore[method-assign]
sys.exit(main())
