"""`clicooper submit`: its options and the call."""

from __future__ import annotations

import argparse
from pathlib import Path

from clicooper_hpc.commands.command import Command, add_json_option, add_set_option, print_report
from clicooper_hpc.errors import ExitCode

__all__ = ["SUBMIT"]


def _add_submit_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("job", type=Path, metavar="JOB.toml")
    parser.add_argument("-o", "--output", type=Path, metavar="RUN", help="run folder to make")
    parser.add_argument("--dry-run", action="store_true", help="only show the script")
    add_json_option(parser)
    add_set_option(parser)


def _submit(arguments: argparse.Namespace) -> int:
    from clicooper_hpc.slurm.submit import submit_job

    print_report(
        submit_job(
            arguments.job,
            overrides=arguments.set,
            output=arguments.output,
            dry_run=arguments.dry_run,
            as_json=arguments.json,
        )
    )
    return ExitCode.DONE


SUBMIT = Command(
    "submit", "write the Slurm script of a job and submit it", _add_submit_options, _submit
)
