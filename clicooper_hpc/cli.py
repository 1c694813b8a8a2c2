"""The command line: the parser of all commands, and exit codes for what they raise.

A command's file imports what the command needs when it is called, so that `--help` is instant and
MPI starts only in commands that use it.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence

from clicooper_hpc import __version__
from clicooper_hpc.commands.attack import ATTACK
from clicooper_hpc.commands.audit import AUDIT
from clicooper_hpc.commands.command import add_command
from clicooper_hpc.commands.data import DATA_IMPORT
from clicooper_hpc.commands.doctor import DOCTOR
from clicooper_hpc.commands.export import EXPORT
from clicooper_hpc.commands.front import FRONT_IMPORT
from clicooper_hpc.commands.init import INIT
from clicooper_hpc.commands.inspect import INSPECT
from clicooper_hpc.commands.keys import KEYS_NEW, KEYS_OPEN_MARK
from clicooper_hpc.commands.plan import PLAN
from clicooper_hpc.commands.predict import PREDICT
from clicooper_hpc.commands.report import REPORT
from clicooper_hpc.commands.resume import RESUME
from clicooper_hpc.commands.run import RUN
from clicooper_hpc.commands.submit import SUBMIT
from clicooper_hpc.commands.verify import VERIFY
from clicooper_hpc.errors import ClicooperError, error_of_path
from clicooper_hpc.standard_streams import (
    fill_standard_streams,
    settle_standard_streams,
    write_error_line,
)

__all__ = ["build_parser", "main", "program"]


def program() -> int:
    """Run the command that the process was started for; return its exit code.

    A command that reads files of others runs in a process of its own.
    """
    fill_standard_streams()
    try:
        arguments = build_parser().parse_args()
        if not arguments.guarded:
            return _run_command(arguments)
        from clicooper_hpc.commands.reading_guard import run_guarded

        return _exit_code_of(lambda: run_guarded(lambda: _run_command(arguments)))
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


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    parser = argparse.ArgumentParser(
        prog="clicooper",
        description="Private, pipelined split training on a cluster.",
        epilog="exit codes: 0 done, 1 internal error or lost peer, 2 job file or usage, "
        "3 privacy budget, 4 verification or audit failed, 5 environment, 75 saved: start again",
    )
    parser.add_argument("--version", action="version", version=f"clicooper {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    # In the order in which a user meets them; the help lists them so.
    for command in (
        RUN,
        RESUME,
        PLAN,
        SUBMIT,
        INSPECT,
        REPORT,
        PREDICT,
        EXPORT,
        VERIFY,
        AUDIT,
        ATTACK,
    ):
        add_command(commands, command)
    keys = commands.add_parser("keys", help="identities and mark keys", description="Make keys.")
    keys_commands = keys.add_subparsers(title="keys commands", required=True, metavar="COMMAND")
    add_command(keys_commands, KEYS_NEW)
    add_command(keys_commands, KEYS_OPEN_MARK)
    add_command(commands, DOCTOR)
    data = commands.add_parser("data", help="prepare data sets", description="Prepare data sets.")
    data_commands = data.add_subparsers(title="data commands", required=True, metavar="COMMAND")
    add_command(data_commands, DATA_IMPORT)
    front = commands.add_parser(
        "front", help="prepare public fronts", description="Prepare fronts."
    )
    front_commands = front.add_subparsers(title="front commands", required=True, metavar="COMMAND")
    add_command(front_commands, FRONT_IMPORT)
    add_command(commands, INIT)
    return parser
