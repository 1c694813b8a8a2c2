"""A rank that counts: rank 0 shows a progress line, says a line between, the others do nothing."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from clicooper_hpc.progress.progress_line import ProgressLine
from clicooper_hpc.standard_streams import write_error_line
from clicooper_hpc.transport.launcher import launcher_rank


def main() -> None:
    """Count until the file named on the command line is there."""
    wanted = Path(sys.argv[1])
    if launcher_rank():
        return
    with ProgressLine("step", 1000, last=True) as progress:
        for step in range(999):
            progress.note = (f"loss {step}",)
            progress.advance()
            if step == 20:
                write_error_line("a line of the log")
            if wanted.exists():
                return
            time.sleep(0.05)


if __name__ == "__main__":
    main()
