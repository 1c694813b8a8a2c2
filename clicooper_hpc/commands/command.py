"""`Command`: name, help, options and call of one command, and how a parser adds it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass

from clicooper_hpc.printable import printable_lines

__all__ = ["Command", "add_command", "add_set_option", "print_report"]


@dataclass(frozen=True, slots=True)
class Command:
    """One command of the command line.

    Attributes
    ----------
    name
        Word on the command line.
    help
        Its line in the list of commands; with a capital and a full stop also its description.
    add_options
        Adds arguments and options to the command's own parser.
    call
        Runs it on the parsed arguments and returns the exit code.
    guarded
        Whether it reads files that may be made to break what reads them (`reading_guard`).
    """

    name: str
    help: str
    add_options: Callable[[argparse.ArgumentParser], None]
    call: Callable[[argparse.Namespace], int]
    guarded: bool = False


def add_command(
    parsers: argparse._SubParsersAction[argparse.ArgumentParser], command: Command
) -> None:
    """Add ``command`` to the commands that ``parsers`` knows."""
    text = command.help
    parser = parsers.add_parser(
        command.name, help=text, description=text[0].upper() + text[1:] + "."
    )
    parser.set_defaults(call=command.call, guarded=command.guarded)
    command.add_options(parser)


def print_report(text: str) -> None:
    """Print the result of a command to standard output, texts of others made printable."""
    # A terminal may lack a letter of a text; that is no reason to end in a traceback.
    encoding = sys.stdout.encoding or "utf-8"
    shown = printable_lines(text).encode(encoding, "backslashreplace").decode(encoding)
    print(shown, flush=True)


def add_set_option(parser: argparse.ArgumentParser) -> None:
    """Add ``--set section.key=value``, which the commands that read a job file share."""
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="SECTION.KEY=VALUE",
        help="override one key of the job file (repeatable)",
    )
