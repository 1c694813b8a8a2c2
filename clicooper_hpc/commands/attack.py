"""`clicooper attack`: its options and the call; alone or on every rank of an MPI job."""

from __future__ import annotations

import argparse
from pathlib import Path

from clicooper_hpc.commands.command import Command, add_json_option, print_report
from clicooper_hpc.commands.first_line import write_first_line
from clicooper_hpc.errors import UsageError

__all__ = ["ATTACK", "add_attack_options", "attack"]


def add_attack_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `clicooper attack`."""
    parser.add_argument("run", type=Path, nargs="?", metavar="RUN")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="these attacks")
    parser.add_argument(
        "--party", nargs="+", default=[], metavar="NAME", help='by these, such as "trainer 1"'
    )
    parser.add_argument(
        "--seeds", type=int, default=3, metavar="N", help="repeat each attack (default 3)"
    )
    parser.add_argument(
        "--scale",
        type=float,
        default=1.0,
        metavar="X",
        help="part of the published compute, to try things out (default 1)",
    )
    parser.add_argument(
        "--public", metavar="FILE", help="public data set for attackers (default: job's)"
    )
    parser.add_argument("--share", metavar="I/N", help="this part of the attacks, for job arrays")
    parser.add_argument("--merge", action="store_true", help="put the files of all shares together")
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="default: attacks.h5 in RUN/private"
    )
    parser.add_argument(
        "--figures", type=Path, metavar="DIR", help="also draw figures there (private!)"
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="replace FILE, and pictures in DIR"
    )
    parser.add_argument(
        "--all", action="store_true", help="show every variant, not the strongest in each metric"
    )
    parser.add_argument("-q", "--quiet", action="store_true", help="show no progress")
    add_json_option(parser)
    parser.add_argument("--list", action="store_true", help="show attacks, and the parties of RUN")


def attack(arguments: argparse.Namespace) -> int:
    """Run `clicooper attack`; return its exit code."""
    if not (arguments.quiet or arguments.list or arguments.merge or arguments.run is None):
        write_first_line(f"attack {arguments.run}")
    from clicooper_hpc.attacks.harness.merge_shares import merge_shares
    from clicooper_hpc.attacks.harness.options import AttackOptions
    from clicooper_hpc.attacks.harness.run import attack_run, list_attacks
    from clicooper_hpc.attacks.harness.tasks import TaskShare, parse_task_share

    if arguments.list:
        return print_report(list_attacks(arguments.run, as_json=arguments.json))
    if arguments.run is None:
        raise UsageError("it is not said which run to attack", remedy="Give a run folder.")
    options = AttackOptions(
        only=arguments.only,
        parties=arguments.party,
        seeds=arguments.seeds,
        scale=arguments.scale,
        public=arguments.public,
        share=TaskShare() if arguments.share is None else parse_task_share(arguments.share),
        output=arguments.output,
        figures=arguments.figures,
        overwrite=arguments.overwrite,
        as_json=arguments.json,
        every=arguments.all,
        quiet=arguments.quiet,
    )
    text, code = (merge_shares if arguments.merge else attack_run)(arguments.run, options)
    return print_report(text, code) if text else code


ATTACK = Command(
    "attack", "measure what each party can find out; for the owner", add_attack_options, attack
)
