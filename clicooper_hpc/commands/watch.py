"""`clicooper watch`: its options and the call."""

from __future__ import annotations

import argparse
from pathlib import Path

from clicooper_hpc.commands.command import Command
from clicooper_hpc.errors import ExitCode, UsageError
from clicooper_hpc.standard_streams import end_terminal_line

__all__ = ["WATCH"]

_SHORTEST_S, _LONGEST_S = 0.2, 3600.0


def _add_watch_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=Path, metavar="RUN")
    parser.add_argument("--once", action="store_true", help="show it as it is now, and end")
    parser.add_argument(
        "--every",
        type=float,
        default=2.0,
        metavar="SECONDS",
        help="look so often (default 2; less often where reading takes long)",
    )


def _watch(arguments: argparse.Namespace) -> int:
    # Not NaN, which no comparison refuses.
    if not _SHORTEST_S <= arguments.every <= _LONGEST_S:
        raise UsageError(
            f"{arguments.every:g} is not between {_SHORTEST_S:g} and {_LONGEST_S:g}",
            where="--every",
        )
    try:
        from clicooper_hpc.watch.screen import watch_run

        watch_run(arguments.run, once=arguments.once, every_s=arguments.every)
    except KeyboardInterrupt:
        # The way to leave: the last frame stays. Terminals show ^C, and the prompt would follow it.
        end_terminal_line()
        return ExitCode.DONE
    return ExitCode.DONE


WATCH = Command(
    "watch", "show a run while it goes on; Ctrl-C ends it", _add_watch_options, _watch, guarded=True
)
