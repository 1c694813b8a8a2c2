"""`clicooper pack`: its options and the call."""

from __future__ import annotations

import argparse
from pathlib import Path

from clicooper_hpc.commands.command import Command, add_json_option, print_facts, print_report

__all__ = ["PACK"]


def _add_pack_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=Path, metavar="RUN")
    parser.add_argument(
        "-o", "--output", type=Path, required=True, metavar="FOLDER", help="a new folder"
    )
    parser.add_argument(
        "--license",
        metavar="LICENCE",
        help="under which it is handed on: a name of spdx.org/licenses, or an address "
        "(default: none is granted)",
    )
    parser.add_argument("--describe", metavar="TEXT", help="what the model card says of the data")
    add_json_option(parser)


def _pack(arguments: argparse.Namespace) -> int:
    from clicooper_hpc.packing.pack_readme import LEFT_OUT
    from clicooper_hpc.packing.write_pack import write_pack

    count = write_pack(
        arguments.run,
        arguments.output,
        licence=arguments.license,
        description=arguments.describe,
    )
    if arguments.json:
        facts = {"output": arguments.output, "files": count, "left_out": LEFT_OUT}
        return print_facts(facts)
    lines = [
        f"wrote {arguments.output}: {count} files; check it with "
        f"`clicooper verify {arguments.output}`",
        "left out:",
        *(f"  {what}: {why}" for what, why in LEFT_OUT.items()),
    ]
    return print_report("\n".join(lines))


PACK = Command(
    "pack",
    "write what of a run may be handed on, for tools of others; for the owner",
    _add_pack_options,
    _pack,
    guarded=True,
)
