"""`clicooper audit`: its options and the call."""

from __future__ import annotations

import argparse
from pathlib import Path

from clicooper_hpc.commands.command import Command, add_json_option, print_report
from clicooper_hpc.commands.first_line import write_first_line

__all__ = ["AUDIT"]


def _add_audit_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=Path, metavar="RUN")
    parser.add_argument(
        "--stage", type=int, nargs="+", default=[], metavar="S", help="these, from 0"
    )
    parser.add_argument(
        "--sample",
        type=int,
        metavar="Q",
        help="so many, drawn by the owner's secret and the ledger",
    )
    parser.add_argument("--segment", type=int, metavar="I", help="exit code for this trainer alone")
    parser.add_argument(
        "--tolerance", type=float, metavar="X", help="other hardware: how far states may be apart"
    )
    parser.add_argument(
        "--owner-key",
        metavar="KEY",
        help="insist on this owner (default: the key noted in the private folder)",
    )
    parser.add_argument(
        "--exact", action="store_true", help="bits count, whatever processor a trainer stated"
    )
    parser.add_argument("-q", "--quiet", action="store_true", help="show no progress")
    add_json_option(parser)


def _audit(arguments: argparse.Namespace) -> int:
    if not arguments.quiet:
        write_first_line(f"audit {arguments.run}")
    from clicooper_hpc.audit.report import report_audit

    text, code = report_audit(
        arguments.run,
        stages=arguments.stage,
        sample=arguments.sample,
        segment=arguments.segment,
        tolerance=arguments.tolerance,
        owner_key=arguments.owner_key,
        exact=arguments.exact,
        quiet=arguments.quiet,
        as_json=arguments.json,
    )
    return print_report(text, code)


AUDIT = Command(
    "audit",
    "replay training stages and compare; for the owner",
    _add_audit_options,
    _audit,
    guarded=True,
)
