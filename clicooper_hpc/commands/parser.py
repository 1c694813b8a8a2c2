"""The parser of all commands, in the order in which a user meets them."""

from __future__ import annotations

import argparse

from clicooper_hpc import __version__
from clicooper_hpc.commands.account import ACCOUNT
from clicooper_hpc.commands.command import add_command
from clicooper_hpc.commands.completion import COMPLETION
from clicooper_hpc.commands.data import DATA_IMPORT
from clicooper_hpc.commands.doctor import DOCTOR
from clicooper_hpc.commands.front import FRONT_IMPORT
from clicooper_hpc.commands.init import INIT
from clicooper_hpc.commands.keys import KEYS_NEW, KEYS_OPEN_MARK
from clicooper_hpc.commands.plan import PLAN
from clicooper_hpc.commands.resume import RESUME
from clicooper_hpc.commands.run import RUN
from clicooper_hpc.commands.run_folder_commands import RUN_FOLDER_COMMANDS
from clicooper_hpc.commands.schema import SCHEMA
from clicooper_hpc.commands.submit import SUBMIT
from clicooper_hpc.commands.suggesting_parser import SuggestingParser
from clicooper_hpc.commands.sweep import SWEEP

__all__ = ["build_parser"]


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    parser: argparse.ArgumentParser = SuggestingParser(
        prog="clicooper",
        description="Private, pipelined split training on a cluster.",
        epilog="exit codes: 0 done, 1 internal error or lost peer, 2 job file or usage, "
        "3 privacy budget, 4 verification or audit failed, 5 environment, 75 saved: start again",
    )
    parser.add_argument("--version", action="version", version=f"clicooper {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    # In the order in which a user meets them; the help lists them so.
    for command in (RUN, RESUME, SWEEP, PLAN, ACCOUNT, SUBMIT, *RUN_FOLDER_COMMANDS):
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
    add_command(commands, SCHEMA)
    add_command(commands, COMPLETION)
    # For the one command that speaks of all others.
    parser.set_defaults(parser=parser)
    return parser
