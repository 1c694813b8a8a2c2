"""`Command`: name, help, options and call of one command, and how a parser adds it."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import PurePath

from clicooper_hpc.errors import EnvironmentUnfitError, ExitCode, UsageError
from clicooper_hpc.printable import printable_json
from clicooper_hpc.standard_streams import write_report

__all__ = [
    "Command",
    "add_command",
    "add_json_option",
    "add_set_option",
    "print_facts",
    "print_report",
]


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


def print_report(text: str, code: int = ExitCode.DONE) -> int:
    """Print the result of a command to standard output; return ``code``, the exit code it gives.

    Raises
    ------
    EnvironmentUnfitError
        It cannot be written, and ``code`` says that all is well.
    """
    failure = write_report(text)
    # A verdict that is not good stays what it is: that must not depend on who reads the text.
    if failure is not None and code == ExitCode.DONE:
        raise EnvironmentUnfitError(
            f"the report cannot be written ({failure.strerror})",
            where="standard output",
            remedy="Free space there, or write it elsewhere.",
        )
    return code


def add_json_option(parser: argparse.ArgumentParser) -> None:
    """Add ``--json``, which every command has that tells facts; keys: docs/json.md."""
    parser.add_argument("--json", action="store_true", help="machine-readable output")


def print_facts(facts: Mapping[str, object], code: int = ExitCode.DONE) -> int:
    """Print ``facts`` as JSON, as `print_report` prints text.

    Numbers that are not finite become null: JSON has none.

    Raises
    ------
    UsageError
        What a stranger wrote into a run is nested too deeply to be shown.
    """
    try:
        text = printable_json(_finite(facts))
    except RecursionError:
        raise UsageError("is nested too deeply to be shown", where="--json") from None
    return print_report(text, code)


def _finite(value: object) -> object:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _finite(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(one) for one in value]
    return str(value) if isinstance(value, PurePath) else value


def add_set_option(parser: argparse.ArgumentParser) -> None:
    """Add ``--set section.key=value``, which the commands that read a job file share."""
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="SECTION.KEY=VALUE",
        help="override one key of the job file (repeatable)",
    )
