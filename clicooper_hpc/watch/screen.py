"""`watch_run`: frame after frame on a terminal, in place; plain frames where there is none.

Each frame is written over the last one by moving the cursor up. No other screen, no hidden cursor:
whatever ends this process, the terminal is as it was, with the last frame in it. That holds only
while no line of a frame is longer than the terminal is wide: it would take two lines there.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

from clicooper_hpc.errors import EnvironmentUnfitError, RunFolderError
from clicooper_hpc.standard_streams import write_frame
from clicooper_hpc.watch.frame import folded_lines, frame_lines
from clicooper_hpc.watch.run_reader import WatchedRun

__all__ = ["watch_run"]

_WIDTH = 80
#: Reading takes at most this part of the time: the run needs disk and cores.
_SHARE_OF_READING = 0.1


def watch_run(
    path: Path, *, once: bool, every_s: float, sleep: Callable[[float], None] = time.sleep
) -> None:
    """Show the run in ``path`` until it is complete, or Ctrl-C.

    Parameters
    ----------
    once
        Show it as it is now, and end.
    every_s
        Seconds between two frames, more where reading takes long.

    Raises
    ------
    RunFolderError
        There is no run in ``path``. Not without ``once`` if there is nothing at all, in a folder
        that is there: a run makes its folder some time after its start. One that disappears, or
        cannot be read for a moment, later on is shown as such.
    """
    run: WatchedRun | None = None
    drawn, before = 0, None
    while True:
        begun = time.monotonic()
        size = _terminal_size()
        if run is None and not once and _is_awaited(path):
            is_last, lines = False, _told(f"{path}: not there yet", size)
        else:
            is_first = run is None
            run = run or WatchedRun(path)
            is_last, lines = _next_frame(run, str(path), size, is_first=is_first)
        # Terminals break lines anew when they are resized, or do not: where the last frame begins
        # is not known, so this one comes below it.
        if not _show(lines, drawn if size == before else 0):
            return
        drawn, before = len(lines), size
        if once or is_last:
            return
        took = time.monotonic() - begun
        sleep(max(every_s, took / _SHARE_OF_READING))


def _is_awaited(path: Path) -> bool:
    return not os.path.lexists(path) and os.path.isdir(path.parent)


def _terminal_size() -> tuple[int, int] | None:
    """Return columns and lines that a frame may fill, None if standard output is no terminal."""
    if not sys.stdout.isatty():
        return None
    size = os.get_terminal_size(sys.stdout.fileno())
    # Of a terminal that says it has none: COLUMNS and LINES, else 80 x 24.
    usual = shutil.get_terminal_size()
    columns, rows = size.columns or usual.columns, size.lines or usual.lines
    # The last column and line stay free: terminals wrap and scroll there.
    return min(max(columns - 1, 1), _WIDTH), max(rows - 1, 1)


def _next_frame(
    run: WatchedRun, name: str, size: tuple[int, int] | None, *, is_first: bool
) -> tuple[bool, list[str]]:
    """Return whether no other frame will follow, and the frame."""
    try:
        snapshot = run.read_snapshot()
    except RunFolderError as error:
        if is_first:
            raise
        return False, _told(f"{name}: {error.what}", size)
    width, rows = size or (_WIDTH, None)
    lines = frame_lines(name, snapshot, now=time.time(), width=width, rows=rows)
    return snapshot.status == "complete", lines


def _told(sentence: str, size: tuple[int, int] | None) -> list[str]:
    if size is None:
        return [sentence]
    return folded_lines(sentence, size[0])[: size[1]]


def _show(lines: list[str], drawn: int) -> bool:
    """Show a frame over the last one of ``drawn`` lines; return whether anybody looks."""
    if sys.stdout.isatty():
        failure = write_frame(lines, over=drawn)
    else:
        # An empty line between frames.
        failure = write_frame([*[""] * bool(drawn), *lines])
    if failure is None or isinstance(failure, BrokenPipeError):
        return failure is None
    raise EnvironmentUnfitError(
        f"a frame cannot be written ({failure.strerror})",
        where="standard output",
        remedy="Free space there, or watch on a terminal.",
    )
