"""Log lines that say which rank speaks."""

from __future__ import annotations

import logging
import sys

__all__ = ["configure_logging"]


def configure_logging(rank: int, size: int, *, quiet: bool) -> None:
    """Send log lines of this package to standard error as ``rank/size role: text``.

    Ranks other than 0 speak only to warn: what all ranks do, one of them tells.
    """
    role = "owner" if rank == 0 else f"trainer {rank}"
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter(f"{rank}/{size} {role}: %(message)s"))
    logger = logging.getLogger("clicooper_hpc")
    logger.handlers[:] = [handler]
    logger.propagate = False
    logger.setLevel(logging.WARNING if quiet or rank else logging.INFO)
