"""`clicooper resume`: its options and the call; every rank of the MPI job runs it."""

from __future__ import annotations

import argparse
from pathlib import Path

from clicooper_hpc.commands.command import Command, add_set_option
from clicooper_hpc.commands.first_line import write_first_line

__all__ = ["RESUME"]


def _add_resume_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=Path, metavar="RUN")
    parser.add_argument("-q", "--quiet", action="store_true", help="only warnings and errors")
    add_set_option(parser)


def _resume(arguments: argparse.Namespace) -> int:
    from clicooper_hpc.run.stop_requests import StopRequests

    # As in `run`: a signal must find a handler while the libraries still load.
    stops = StopRequests()
    if not arguments.quiet:
        write_first_line(f"resume {arguments.run}")
    from clicooper_hpc.run.main import resume_run

    return resume_run(arguments.run, stops, overrides=arguments.set, quiet=arguments.quiet)


RESUME = Command(
    "resume", "go on with a stopped or killed run; as many ranks", _add_resume_options, _resume
)
