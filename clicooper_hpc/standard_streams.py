"""Standard streams that nobody reads, that are full or closed: they never change an exit code.

Scripts go by exit codes. A verdict that ended in a traceback, or as 0 because ``head`` was done
with its lines, would be a wrong one.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from typing import TextIO

from clicooper_hpc.printable import printable_lines, printable_text

__all__ = [
    "end_terminal_line",
    "fill_standard_streams",
    "set_live_line",
    "settle_standard_streams",
    "write_error_line",
    "write_frame",
    "write_report",
]

#: Clears the line that is drawn on the terminal just now.
_live_line: Callable[[], None] | None = None


def set_live_line(make_way: Callable[[], None] | None) -> None:
    """Have ``make_way`` called before every line that is printed here; None: no line is drawn."""
    global _live_line
    _live_line = make_way


def fill_standard_streams() -> None:
    """Open the null device in place of every standard stream that was closed (``>&-``).

    Else the next file that is opened gets its number, and whatever a library prints lands in it.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            descriptor = os.open(os.devnull, os.O_RDWR)
            # As standard streams are: a process started from here would lack it again.
            os.set_inheritable(descriptor, True)
            setattr(sys, name, os.fdopen(descriptor, mode, encoding="utf-8"))


def write_report(text: str) -> OSError | None:
    """Print ``text`` to standard output, texts of others made printable; return why it failed.

    That the reader of a pipe (head, less) went away is no failure.
    """
    # A terminal may lack a letter of a text; that is no reason to end in a traceback.
    _clear_live_line()
    encoding = sys.stdout.encoding or "utf-8"
    shown = printable_lines(text).encode(encoding, "backslashreplace").decode(encoding)
    try:
        print(shown, flush=True)  # noqa: T201
    except OSError as error:
        _discard(sys.stdout)
        return None if isinstance(error, BrokenPipeError) else error
    return None


def write_frame(lines: Sequence[str], *, over: int | None = None) -> OSError | None:
    """Print ``lines`` to standard output, made printable; return why it failed.

    ``over``: standard output is a terminal, and the lines replace the last so many lines there.
    A reader that went away is a failure here: nobody is watching.
    """
    encoding = sys.stdout.encoding or "utf-8"
    shown = [
        printable_text(line).encode(encoding, "backslashreplace").decode(encoding) for line in lines
    ]
    text = "".join(f"{line}\n" for line in shown)
    if over is not None:
        # Line by line, so that nothing flickers; then away with what is left of a longer frame.
        up = f"\x1b[{over}A\r" if over else ""
        text = up + "".join(f"{line}\x1b[K\n" for line in shown) + "\x1b[J"
    try:
        print(text, end="", flush=True)  # noqa: T201
    except OSError as error:
        _discard(sys.stdout)
        return error
    return None


def end_terminal_line() -> None:
    """End the line that a terminal at standard output is in, and clear what stands below it."""
    if sys.stdout.isatty():
        try:
            # A frame that was interrupted may have left some of the one before it.
            print("\n\x1b[J", end="", flush=True)  # noqa: T201
        except OSError:
            _discard(sys.stdout)


def write_error_line(line: str) -> None:
    """Print ``line`` to standard error if that can be written to."""
    _clear_live_line()
    try:
        print(line, file=sys.stderr, flush=True)  # noqa: T201
    except OSError:
        _discard(sys.stderr)


def settle_standard_streams() -> None:
    """Write out what is still held back, and let go of what nobody takes.

    The interpreter does the same at its exit, and replaces the exit code by 120 if it fails.
    """
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            _discard(stream)
        except ValueError:  # closed
            continue


def _clear_live_line() -> None:
    if _live_line is not None:
        _live_line()


def _discard(stream: TextIO) -> None:
    """Lead ``stream`` to the null device: what it holds back would be tried again at exit."""
    null = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, stream.fileno())
    except OSError:  # not a stream of the system's, so nothing is tried at exit
        pass
    finally:
        os.close(null)
