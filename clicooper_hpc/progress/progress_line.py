"""`ProgressLine`: how far a long command is, and what it is at.

A thread of its own draws and says: work never waits for a terminal, and a task that takes an hour
shows that it is alive. Everything goes to standard error; results have standard output.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable

from clicooper_hpc.closing import Closing
from clicooper_hpc.printable import printable_text
from clicooper_hpc.progress.durations import duration_text
from clicooper_hpc.progress.terminal import LiveTerminal, find_live_terminal
from clicooper_hpc.standard_streams import set_live_line, write_error_line

__all__ = ["ProgressLine", "pause_of_lines"]

_DRAW_S = 0.2
_LOOK_S = 0.5
#: A command that is done sooner says nothing of its progress.
_PATIENCE_S = 2.0
_SHORTEST_PAUSE_S, _LONGEST_PAUSE_S = 5.0, 300.0
#: The rate is that of the last so many seconds, but of no fewer than so many looks.
_RATE_S, _RATE_LOOKS = 60.0, 20
_GRAPH = 10


def pause_of_lines(elapsed_s: float) -> float:
    """Return the least time between two lines of a log: longer, the longer it all takes.

    5 s at first, later a fiftieth of what has gone by, at most 5 min: some hundred lines a day.
    """
    return min(max(_SHORTEST_PAUSE_S, elapsed_s / 50), _LONGEST_PAUSE_S)


class ProgressLine(Closing):
    """Shows progress from its making to the end of the block.

    On a terminal a line that is drawn anew; else lines, the first after two seconds, the last at
    the end.

    Parameters
    ----------
    title
        What is counted, such as ``"step"``; or, with ``total`` None, what goes on.
    total
        How many there are; None if nobody knows.
    done
        How many are done already.
    quiet
        Say nothing.
    say
        Takes lines, also of another thread; default: standard error.
    first, last
        What a log gets whatever the time: a line at the beginning, a line at the end.

    Attributes
    ----------
    note
        What is being done, or what came out so far; parts in order of importance. May be set at
        any time.

    Raises
    ------
    UsageError
        As `find_live_terminal`.
    """

    def __init__(
        self,
        title: str,
        total: int | None = None,
        *,
        done: int = 0,
        note: tuple[str, ...] = (),
        quiet: bool = False,
        say: Callable[[str], None] = write_error_line,
        first: bool = False,
        last: bool = False,
    ) -> None:
        self.note = note
        self._title = title
        self._total = total
        self._done = done
        self._quiet = quiet
        self._say = say
        self._last = last
        self._begun = time.monotonic()
        #: When which number was done, for the rate.
        self._looks: deque[tuple[float, int]] = deque([(self._begun, done)])
        self._said: float | None = None
        self._ended = threading.Event()
        # Whoever draws or clears holds it: two threads write to the terminal.
        self._drawing = threading.RLock()
        self._is_drawn = False
        self._held_until = 0.0
        self._terminal: LiveTerminal | None = None
        self._thread: threading.Thread | None = None
        if quiet:
            return
        self._terminal = find_live_terminal()
        if first:
            self._say_line()
        set_live_line(self._make_way)
        self._thread = threading.Thread(target=self._show, name="progress", daemon=True)
        self._thread.start()

    def advance(self, count: int = 1) -> None:
        """Note that ``count`` more are done."""
        self._done += count

    def close_on_exit(self, error: BaseException | None) -> None:
        """Remove the live line; a log gets its last one."""
        if self._thread is None:
            return
        self._ended.set()
        # Not for ever: a terminal that is held (Ctrl-S) takes nothing.
        self._thread.join(timeout=2.0)
        self._make_way()
        set_live_line(None)
        if error is None and (self._last or (self._said is not None and self._terminal is None)):
            self._say_line()

    def _show(self) -> None:
        """Draw, or say a line where it is time; until the end."""
        while not self._ended.wait(_LOOK_S if self._terminal is None else _DRAW_S):
            now = time.monotonic()
            self._looks.append((now, self._done))
            while len(self._looks) > _RATE_LOOKS and now - self._looks[0][0] > _RATE_S:
                self._looks.popleft()
            if self._terminal is not None:
                self._draw(self._terminal, now)
            elif now - self._begun >= _PATIENCE_S and (
                self._said is None or now - self._said >= pause_of_lines(now - self._begun)
            ):
                self._say_line()

    def _say_line(self) -> None:
        self._said = time.monotonic()
        self._say(printable_text(", ".join(part for part in self._parts() if part)))

    def _parts(self) -> list[str]:
        """Return title and count, notes, times."""
        elapsed = time.monotonic() - self._begun
        done, total = self._done, self._total
        if total is None:
            counted = f" {done:,}" if done else ""
            return [f"{self._title}{counted}", *self.note, *_since(elapsed)]
        share = f" ({100 * done // total} %)" if total else ""
        return [
            f"{self._title} {done:,} of {total:,}{share}",
            *self.note,
            *_since(elapsed),
            self._left(),
        ]

    def _left(self) -> str:
        """Return the time that is left as text, nothing while nobody can know."""
        (then, before), (now, done) = self._looks[0], self._looks[-1]
        if self._total is None or done <= before or done >= self._total:
            return ""
        return f"about {duration_text((self._total - done) * (now - then) / (done - before))} left"

    def _draw(self, terminal: LiveTerminal, now: float) -> None:
        if now < self._held_until:
            return
        # One column is left free: at the last one terminals wrap, each in its own way.
        text = _fitting(self._live_parts(), terminal.width() - 1)
        with self._drawing:
            if self._ended.is_set():
                return
            self._is_drawn = terminal.write(f"\r{printable_text(text)}\x1b[K")

    def _live_parts(self) -> list[str]:
        elapsed = duration_text(time.monotonic() - self._begun)
        if not self._total:
            counted = f" {self._done:,}" if self._done else ""
            return [f"{self._title}{counted}", elapsed, *self.note]
        filled = min(_GRAPH, _GRAPH * self._done // self._total)
        graph = f"[{'#' * filled}{'-' * (_GRAPH - filled)}]"
        left = self._left().removeprefix("about ")
        times = f"{elapsed}, {left}" if left else elapsed
        return [f"{self._title} {self._done:,}/{self._total:,} {graph}", times, *self.note]

    def _make_way(self) -> None:
        """Clear the live line for a line of text."""
        with self._drawing:
            if self._is_drawn and self._terminal is not None:
                self._terminal.write("\r\x1b[K")
                self._is_drawn = False
            # A line that goes through a launcher arrives a little later.
            self._held_until = time.monotonic() + _DRAW_S


def _since(elapsed: float) -> list[str]:
    return [duration_text(elapsed)] if elapsed >= 1 else []


def _fitting(parts: list[str], width: int) -> str:
    """Return ``parts`` in one line, without the last ones that have no room."""
    line, *rest = parts
    for part in rest:
        if len(line) + 2 + len(part) > width:
            break
        line = f"{line}  {part}"
    return line[: max(width, 0)]
