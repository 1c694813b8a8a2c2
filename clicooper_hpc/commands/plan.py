"""`clicooper plan`: its options and the call."""

from __future__ import annotations

import argparse
from pathlib import Path

from clicooper_hpc.commands.command import (
    Command,
    add_json_option,
    add_set_option,
    print_facts,
    print_report,
)
from clicooper_hpc.errors import ExitCode

__all__ = ["PLAN"]


def _add_plan_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("job", type=Path, metavar="JOB.toml")
    parser.add_argument("--ranks", type=int, metavar="N", help="ranks: one owner and N-1 trainers")
    parser.add_argument(
        "--recommend",
        action="store_true",
        help="also forecast the accuracy of every release mode, on public rows alone (a minute)",
    )
    add_json_option(parser)
    add_set_option(parser)


def _plan(arguments: argparse.Namespace) -> int:
    from clicooper_hpc.commands.plan_report import plan_run
    from clicooper_hpc.config.load_job import load_job

    job = load_job(arguments.job, arguments.set)
    report, facts = plan_run(job, ranks=arguments.ranks)
    if arguments.recommend:
        from clicooper_hpc.commands.plan_modes import recommend_mode

        advice = recommend_mode(job)
        report, facts["recommendation"] = f"{report}\n\n{advice}", advice.splitlines()
    if arguments.json:
        return print_facts(facts)
    print_report(report)
    return ExitCode.DONE


PLAN = Command("plan", "show what a run would do; needs no MPI", _add_plan_options, _plan)
