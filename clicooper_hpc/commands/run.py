"""`clicooper run`: its options and the call; every rank of the MPI job runs it."""

from __future__ import annotations

import argparse
from pathlib import Path

from clicooper_hpc.commands.command import Command, add_set_option
from clicooper_hpc.commands.first_line import write_first_line

__all__ = ["RUN"]


def _add_run_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("job", type=Path, metavar="JOB.toml")
    parser.add_argument("-o", "--output", type=Path, metavar="RUN", help="run folder to make")
    parser.add_argument("--resume", action="store_true", help="go on if the run has begun already")
    parser.add_argument("-q", "--quiet", action="store_true", help="only warnings and errors")
    add_set_option(parser)


def _run(arguments: argparse.Namespace) -> int:
    from clicooper_hpc.run.stop_requests import StopRequests

    # Before the libraries load, which takes seconds: Slurm's signal in between would kill the rank.
    stops = StopRequests()
    if not arguments.quiet:
        write_first_line(f"run {arguments.job}")
    from clicooper_hpc.run.main import run_job

    return run_job(
        arguments.job,
        stops,
        overrides=arguments.set,
        output=arguments.output,
        resume=arguments.resume,
        quiet=arguments.quiet,
    )


RUN = Command("run", "train: start with mpirun -n (segments + 1)", _add_run_options, _run)
