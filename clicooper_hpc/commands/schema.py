"""`clicooper schema`: the JSON Schema of job files, which editors check and complete keys by."""

from __future__ import annotations

import argparse
from pathlib import Path

from clicooper_hpc.commands.command import Command, print_report

__all__ = ["SCHEMA"]


def _add_schema_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="a new file (default: print it)"
    )


def _schema(arguments: argparse.Namespace) -> int:
    from clicooper_hpc.config.job_schema import job_schema_text

    text = job_schema_text()
    if arguments.output is None:
        return print_report(text.rstrip("\n"))
    from clicooper_hpc.runstore.new_output import new_output

    with new_output(arguments.output, "the schema", folder=False) as path:
        path.write_text(text, encoding="utf-8")
    return print_report(
        f"wrote {arguments.output}; first line of a job file beside it: "
        f"#:schema {arguments.output.name}"
    )


SCHEMA = Command("schema", "JSON Schema of job files, for editors", _add_schema_options, _schema)
