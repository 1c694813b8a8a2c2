"""One parser under test: seeds, the call, and what it may raise; and how one input is judged."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from clicooper_hpc.errors import FAILURE_CODES, MOST_CHARACTERS, ClicooperError

#: Longest line a user may be shown for one bad input.
MOST_LINE = 3 * MOST_CHARACTERS + 20
#: Most processor time for one input; inputs are a few kilobytes.
MOST_SECONDS = 5.0
_PACKAGE = f"{Path(__file__).resolve().parents[2] / 'clicooper_hpc'}/"


@dataclass(frozen=True)
class FuzzTarget:
    """A parser that reads bytes of others.

    Parameters
    ----------
    name
        What is read.
    seeds
        Makes good inputs to begin with.
    read
        Calls the parser; may also assert what must hold of an input that is taken.
    refusals
        What it may raise: our own error, or `ValueError` where its one caller makes one of it.
    form
        "bytes", or "json" where inputs are also changed as JSON values.
    files
        It reads a file: slower, so it is run less often.
    foreign
        It hands bytes to a C library that may crash: it runs in a process of its own.
    """

    name: str
    seeds: Callable[[], Sequence[bytes]]
    read: Callable[[bytes], object]
    refusals: tuple[type[Exception], ...] = (ClicooperError,)
    form: str = "bytes"
    files: bool = False
    foreign: bool = False


@dataclass(frozen=True)
class Fault:
    """An input that was answered otherwise than it must be.

    ``key`` is equal for inputs that show the same fault.
    """

    key: str
    report: str


def judge_input(target: FuzzTarget, content: bytes) -> Fault | None:
    """Give ``content`` to the parser; return what is wrong with its answer."""
    began = time.thread_time()
    try:
        target.read(content)
    except target.refusals as error:
        fault = _judge_refusal(error)
    # Whatever else comes out of a parser is what is looked for.
    except Exception as error:  # noqa: BLE001
        place = _innermost_place(error)
        return Fault(f"{type(error).__name__} at {place}", traceback.format_exc())
    else:
        fault = None
    seconds = time.thread_time() - began
    if fault is None and seconds > MOST_SECONDS:
        return Fault("slow", f"{seconds:.1f} s of processor time for {len(content)} bytes")
    return fault


def _judge_refusal(error: Exception) -> Fault | None:
    if not isinstance(error, ClicooperError):
        return None
    line = error.line()
    what = None
    if len(line) > MOST_LINE:
        what = "long line"
    elif not line.isprintable():
        what = "control characters"
    elif error.exit_code not in FAILURE_CODES:
        what = f"exit code {error.exit_code}"
    if what is None:
        return None
    return Fault(f"{what} at {_innermost_place(error)}", ascii(line)[:MOST_LINE])


def _innermost_place(error: BaseException) -> str:
    """Return file and line of ours that is nearest to where ``error`` was raised."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if frame.filename.startswith(_PACKAGE)] or frames
    return f"{ours[-1].filename.removeprefix(_PACKAGE)}:{ours[-1].lineno}"
