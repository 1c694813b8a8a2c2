"""`clicooper export`: its options and the call."""

from __future__ import annotations

import argparse
from pathlib import Path

from clicooper_hpc.commands.command import Command, add_json_option, print_facts, print_report
from clicooper_hpc.errors import UsageError
from clicooper_hpc.progress.progress_line import ProgressLine

__all__ = ["EXPORT"]

_ONE_FILE = "one-file"


def _add_export_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=Path, metavar="RUN")
    parser.add_argument(
        "--to",
        required=True,
        metavar="FORMAT",
        help="the model: torch, onnx, safetensors or hf-folder; what the run recorded: one-file "
        "(HDF5), tensorboard, mlflow, csv or parquet",
    )
    parser.add_argument(
        "-o",
        "--output",
        required=True,
        metavar="OUT",
        help="a new file (.pt2, .onnx, .h5) or folder (all others)",
    )
    parser.add_argument(
        "--describe", metavar="TEXT", help="what the model card says of the data (hf-folder)"
    )
    parser.add_argument("-q", "--quiet", action="store_true", help="show no progress")
    add_json_option(parser)


def _export(arguments: argparse.Namespace) -> int:
    from clicooper_hpc.report.trackers.export_record import TRACKER_FORMATS, export_record

    if arguments.to == _ONE_FILE:
        return _export_one_file(arguments)

    # Before the model's: these load no torch and need no secrets.
    if arguments.to in TRACKER_FORMATS:
        if arguments.describe is not None:
            raise UsageError("only a model card shows it: --to hf-folder", where="--describe")
        exported = export_record(arguments.run, arguments.to, Path(arguments.output))
        return print_facts(exported.facts()) if arguments.json else print_report(exported.text())
    from clicooper_hpc.data.output_place import named_file
    from clicooper_hpc.inference.exports.export_request import MODEL_FORMATS, check_export

    # First of all: a model takes seconds to load. A folder may be named with a slash.
    known = MODEL_FORMATS.get(arguments.to)
    is_file = known is not None and known.ending
    output = named_file(arguments.output) if is_file else Path(arguments.output)
    chosen = check_export(
        arguments.to,
        output,
        description=arguments.describe,
        others=(_ONE_FILE, *TRACKER_FORMATS),
    )
    line = f"export: loading the model of {arguments.run}"
    with ProgressLine(line, quiet=arguments.quiet) as progress:
        from clicooper_hpc.inference.exports.export_model import export_model
        from clicooper_hpc.inference.load_model import load_model_of_run

        model = load_model_of_run(arguments.run)
        progress.note = (f"loaded; writing {output}, reading it back",)
        off = export_model(model, arguments.to, output, description=arguments.describe)
    if arguments.json:
        return print_facts({"output": output, "format": arguments.to, "off": off})
    agrees = "equal to the bit" if off == 0 else f"within {off:.1g}"
    return print_report(f"wrote {output}: read back, its {chosen.compared} are {agrees}")


def _export_one_file(arguments: argparse.Namespace) -> int:
    from clicooper_hpc.data.output_place import named_file
    from clicooper_hpc.runstore.index_end import write_one_file
    from clicooper_hpc.runstore.whole_run import open_whole_run

    if arguments.describe is not None:
        raise UsageError("only a model card shows it: --to hf-folder", where="--describe")
    output = named_file(arguments.output)
    run = open_whole_run(arguments.run)
    write_one_file(run, output)
    if arguments.json:
        return print_facts(
            {"output": output, "format": _ONE_FILE, "status": run.status, "ranks": len(run.ranks)}
        )
    return print_report(
        f"wrote {output}: {run.status} run, tables of {len(run.ranks)} ranks, no links"
    )


EXPORT = Command(
    "export",
    "write the model or the record of a run for other programs",
    _add_export_options,
    _export,
    guarded=True,
)
