"""`clicooper export`: its options and the call."""

from __future__ import annotations

import argparse
from pathlib import Path

from clicooper_hpc.commands.command import Command, print_report
from clicooper_hpc.errors import UsageError

__all__ = ["EXPORT"]


def _add_export_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=Path, metavar="RUN")
    parser.add_argument(
        "--to",
        required=True,
        metavar="FORMAT",
        help="torch, onnx, safetensors, hf-folder; one-file: the run itself as one HDF5 file",
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        required=True,
        metavar="OUT",
        help="a new file (.pt2, .onnx, .h5) or folder (safetensors, hf-folder)",
    )
    parser.add_argument(
        "--describe", metavar="TEXT", help="what the model card says of the data (hf-folder)"
    )


def _export(arguments: argparse.Namespace) -> int:
    if arguments.to == "one-file":
        return _export_one_file(arguments)
    from clicooper_hpc.inference.exports.export_model import EXPORT_FORMATS, export_model
    from clicooper_hpc.inference.load_model import load_model_of_run

    off = export_model(
        load_model_of_run(arguments.run),
        arguments.to,
        arguments.output,
        description=arguments.describe,
    )
    agrees = "equal to the bit" if off == 0 else f"within {off:.1g}"
    compared = EXPORT_FORMATS[arguments.to].compared
    return print_report(f"wrote {arguments.output}: read back, its {compared} are {agrees}")


def _export_one_file(arguments: argparse.Namespace) -> int:
    from clicooper_hpc.runstore.index_end import write_one_file
    from clicooper_hpc.runstore.reader import open_run

    if arguments.describe is not None:
        raise UsageError("only a model card shows it: --to hf-folder", where="--describe")
    run = open_run(arguments.run)
    write_one_file(run, arguments.output)
    return print_report(
        f"wrote {arguments.output}: {run.status} run, tables of {len(run.ranks)} ranks, no links"
    )


EXPORT = Command(
    "export",
    "write the model of a run, or the run, for other programs",
    _add_export_options,
    _export,
    guarded=True,
)
