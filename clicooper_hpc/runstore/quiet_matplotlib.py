"""Importing matplotlib without its notes on caches: they are about no run, and in no one's way."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

__all__ = ["quiet_matplotlib"]


@contextlib.contextmanager
def quiet_matplotlib() -> Iterator[None]:
    """Keep to itself what matplotlib says when it is imported, errors but none below.

    Where the home folder cannot be written, as in many containers and jobs, it makes a temporary
    one for its caches and tells so on standard error. It does the right thing by itself, so nothing
    is set in the environment, which children of this process would inherit.
    """
    log = logging.getLogger("matplotlib")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)
