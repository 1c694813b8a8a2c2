"""`clicooper export`: its options and the call."""

from __future__ import annotations

import argparse
from pathlib import Path

from clicooper_hpc.commands.command import Command, print_report

__all__ = ["EXPORT"]


def _add_export_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=Path, metavar="RUN")
    parser.add_argument(
        "--to", required=True, metavar="FORMAT", help="torch, onnx, safetensors or hf-folder"
    )
    parser.add_argument(
        "-o",
        "--output",
        required=True,
        metavar="OUT",
        help="a new file (.pt2, .onnx) or folder (safetensors, hf-folder)",
    )
    parser.add_argument(
        "--describe", metavar="TEXT", help="what the model card says of the data (hf-folder)"
    )


def _export(arguments: argparse.Namespace) -> int:
    from clicooper_hpc.data.output_place import named_file
    from clicooper_hpc.inference.exports.export_model import EXPORT_FORMATS, export_model
    from clicooper_hpc.inference.load_model import load_model_of_run

    chosen = EXPORT_FORMATS.get(arguments.to)
    # A folder may be named with a slash.
    is_file = chosen is not None and bool(chosen.ending)
    output = named_file(arguments.output) if is_file else Path(arguments.output)
    off = export_model(
        load_model_of_run(arguments.run),
        arguments.to,
        output,
        description=arguments.describe,
    )
    agrees = "equal to the bit" if off == 0 else f"within {off:.1g}"
    compared = EXPORT_FORMATS[arguments.to].compared
    return print_report(f"wrote {output}: read back, its {compared} are {agrees}")


EXPORT = Command(
    "export",
    "write the model of a run for other programs; for the owner",
    _add_export_options,
    _export,
    guarded=True,
)
