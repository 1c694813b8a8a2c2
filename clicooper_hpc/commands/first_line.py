"""The first line of a command that loads large libraries: written before they are imported."""

from __future__ import annotations

import os

from clicooper_hpc.printable import printable_text
from clicooper_hpc.standard_streams import write_error_line
from clicooper_hpc.transport.launcher import launcher_rank, read_launcher

__all__ = ["write_first_line"]


def write_first_line(what: str) -> None:
    """Say on standard error that ``what`` is starting: once, however many ranks there are."""
    if launcher_rank():
        return
    launcher = read_launcher(os.environ)
    if launcher.size is None:
        write_error_line(printable_text(f"{what}: loading libraries"))
        return
    # As the lines of the log that follow.
    write_error_line(
        printable_text(
            f"0/{launcher.size} owner: {what}: {launcher.size} ranks started by {launcher.name}, "
            "loading libraries"
        )
    )
