"""The command line: runs a command, and gives exit codes for what it raises.

A command's file imports what the command needs when it is called, so that `--help` is instant and
MPI starts only in commands that use it.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence

from clicooper_hpc.commands.ending_signals import (
    EndedBySignal,
    end_by_signal,
    raise_ending_signals,
)
from clicooper_hpc.commands.parser import build_parser
from clicooper_hpc.errors import ClicooperError, error_of_path
from clicooper_hpc.standard_streams import (
    fill_standard_streams,
    settle_standard_streams,
    write_error_line,
)
from clicooper_hpc.transport.launcher import launcher_size

__all__ = ["main", "program"]


def program() -> int:
    """Run the command that the process was started for; return its exit code.

    A command that reads files of others runs in a process of its own.
    """
    fill_standard_streams()
    try:
        arguments = build_parser().parse_args()
        if arguments.guarded:
            from clicooper_hpc.commands.reading_guard import run_guarded

            return _exit_code_of(lambda: run_guarded(lambda: _run_command(arguments)))
        # What a rank does with a signal its run says: the others must learn of it.
        if (launcher_size() or 1) == 1:
            raise_ending_signals()
        return _run_command(arguments)
    except EndedBySignal as end:
        end_by_signal(end)
    finally:
        settle_standard_streams()


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command in this process and return its exit code."""
    fill_standard_streams()
    try:
        return _run_command(build_parser().parse_args(argv))
    finally:
        settle_standard_streams()


def _run_command(arguments: argparse.Namespace) -> int:
    return _exit_code_of(lambda: int(arguments.call(arguments)))


def _exit_code_of(call: Callable[[], int]) -> int:
    """Return what ``call`` returns, or tell the error it ended with and return its code."""
    try:
        return call()
    except ClicooperError as error:
        write_error_line(f"clicooper: {error.line()}")
        return int(error.exit_code)
    except OSError as error:
        unfit = error_of_path(error)
        if unfit is None:
            raise
        write_error_line(f"clicooper: {unfit.line()}")
        return int(unfit.exit_code)
    except KeyboardInterrupt:
        write_error_line("clicooper: interrupted")
        # 128 + SIGINT, as shells report a process that Ctrl-C has ended.
        return 130
