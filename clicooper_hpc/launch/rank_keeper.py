"""Keeper of ranks: starts a launcher, and leaves no process of it behind, whatever happens.

Run as a program, with nothing but the standard library:
``python -I rank_keeper.py FILE LAUNCHER ...``. FILE, if any, is removed at the end.
Its standard input is a pipe that the process which wants the ranks holds open. When it closes,
because it was closed or because that process is gone, everything that was started is killed.
Launchers put ranks into sessions of their own; here they are found as descendants.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

__all__ = ["keep_ranks"]

#: Seconds between two looks at the launcher; those that what it leaves may take to end by itself.
_LOOK_S = 0.05
_GRACE_S = 2.0
_SHARED_MEMORY = "/dev/shm/mpich_shm_"  # noqa: S108 - a name to look for
# Of linux/prctl.h.
_PR_SET_CHILD_SUBREAPER = 36


def keep_ranks(command: Sequence[str], remove: str) -> int:
    """Run ``command`` until it ends or standard input closes; return its exit code.

    128 and the number of the signal if a signal ended it. ``remove``: a file, or empty.
    """
    try:
        return _keep(command)
    finally:
        # Also where the process that made it was killed and cannot.
        if remove:
            with contextlib.suppress(OSError):
                os.unlink(remove)


def _keep(command: Sequence[str]) -> int:
    for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # What ends this process is the pipe alone: a signal here would leave ranks behind. A
        # handler, for what is ignored would stay ignored in the launcher.
        signal.signal(one, lambda *_: None)
    _adopt_orphans()
    try:
        launcher = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    except OSError as error:
        # As the command line tells an error; 5 is its code for an environment that does not do.
        os.write(2, f"clicooper: {command[0]}: cannot be started ({error.strerror})\n".encode())
        return 5
    while launcher.poll() is None:
        readable, _, _ = select.select([0], [], [], _LOOK_S)
        if readable and not os.read(0, 1):
            _kill_descendants()
            break
    code = launcher.wait()
    _await_descendants()
    _kill_descendants()
    return code if code >= 0 else 128 - code


def _adopt_orphans() -> None:
    """Become the parent of descendants whose own parent ends, so that they are still found."""
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is not None:
        prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _await_descendants() -> None:
    ends = time.monotonic() + _GRACE_S
    while _descendants() and time.monotonic() < ends:
        time.sleep(_LOOK_S)


def _kill_descendants() -> None:
    shared: set[str] = set()
    while living := _descendants():
        for one in living:
            shared |= _shared_memory(one)
            with contextlib.suppress(ProcessLookupError):
                os.kill(one, signal.SIGKILL)
        time.sleep(_LOOK_S)
    for path in shared:
        with contextlib.suppress(OSError):
            os.unlink(path)


def _shared_memory(process: int) -> set[str]:
    """Return files of shared memory that MPICH has made for a rank, and would itself remove.

    Ranks that are killed leave them, and a container may have room for a few alone.
    """
    with contextlib.suppress(OSError):
        lines = Path(f"/proc/{process}/maps").read_text(errors="replace").splitlines()
        places = (line.split(maxsplit=5)[-1] for line in lines if _SHARED_MEMORY in line)
        return {place for place in places if place.startswith(_SHARED_MEMORY)}
    return set()


def _descendants() -> list[int]:
    """Return the processes that came from this one and have not ended."""
    children: dict[int, list[int]] = {}
    states: dict[int, str] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal():
            continue
        with contextlib.suppress(OSError, IndexError, ValueError):
            # The name in brackets may hold anything, blanks and brackets too.
            words = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()
            children.setdefault(int(words[1]), []).append(int(entry.name))
            states[int(entry.name)] = words[0]
    found, rest = [], [os.getpid()]
    while rest:
        for child in children.get(rest.pop(), ()):
            found.append(child)
            rest.append(child)
    return [one for one in found if (states[one] not in "ZX")]


if __name__ == "__main__":
    sys.exit(keep_ranks(sys.argv[2:], sys.argv[1]))
