"""`clicooper export`: its options and the call."""

from __future__ import annotations

import argparse
from pathlib import Path

from clicooper_hpc.commands.command import Command, print_report
from clicooper_hpc.progress.progress_line import ProgressLine

__all__ = ["EXPORT"]


def _add_export_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=Path, metavar="RUN")
    parser.add_argument(
        "--to", required=True, metavar="FORMAT", help="torch, onnx, safetensors or hf-folder"
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        required=True,
        metavar="OUT",
        help="a new file (.pt2, .onnx) or folder (safetensors, hf-folder)",
    )
    parser.add_argument(
        "--describe", metavar="TEXT", help="what the model card says of the data (hf-folder)"
    )
    parser.add_argument("-q", "--quiet", action="store_true", help="show no progress")


def _export(arguments: argparse.Namespace) -> int:
    line = f"export: loading the model of {arguments.run}"
    with ProgressLine(line, quiet=arguments.quiet) as progress:
        from clicooper_hpc.inference.exports.export_model import EXPORT_FORMATS, export_model
        from clicooper_hpc.inference.load_model import load_model_of_run

        model = load_model_of_run(arguments.run)
        progress.note = (f"loaded; writing {arguments.output}, reading it back",)
        off = export_model(model, arguments.to, arguments.output, description=arguments.describe)
    agrees = "equal to the bit" if off == 0 else f"within {off:.1g}"
    compared = EXPORT_FORMATS[arguments.to].compared
    return print_report(f"wrote {arguments.output}: read back, its {compared} are {agrees}")


EXPORT = Command(
    "export",
    "write the model of a run for other programs; for the owner",
    _add_export_options,
    _export,
    guarded=True,
)
