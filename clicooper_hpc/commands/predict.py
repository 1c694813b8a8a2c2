"""`clicooper predict`: its options and the call."""

from __future__ import annotations

import argparse
import os
from dataclasses import asdict
from pathlib import Path

from clicooper_hpc.commands.command import Command, add_json_option, print_facts, print_report
from clicooper_hpc.progress.progress_line import ProgressLine
from clicooper_hpc.standard_streams import write_error_line

__all__ = ["PREDICT"]


def _add_predict_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=Path, metavar="RUN")
    parser.add_argument(
        # Not a Path, which makes one of "digits", "./digits" and "digits/".
        "data",
        metavar="DATA",
        help="HDF5 data set, whatever `data import` takes (tables too), images, npz",
    )
    parser.add_argument(
        "-o",
        "--output",
        required=True,
        metavar="OUT",
        help="file to write: .csv, .h5, .npz or .parquet",
    )
    parser.add_argument(
        "--split", default="test", metavar="NAME", help="these samples of DATA (default test)"
    )
    parser.add_argument(
        "--kind",
        metavar="KIND",
        help="hdf5, cifar10, cifar100, idx, folder, npz, csv, parquet or arrow (default: by name)",
    )
    parser.add_argument(
        "--size", type=int, metavar="PIXELS", help="cut and scale images to a square (folder)"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace OUT")
    parser.add_argument("-q", "--quiet", action="store_true", help="show no progress")
    add_json_option(parser)


def _predict(arguments: argparse.Namespace) -> int:
    from clicooper_hpc.data.output_place import named_file, refuse_output_in_source
    from clicooper_hpc.inference.prediction_files import check_prediction_place
    from clicooper_hpc.inference.source_check import check_source_shape, checked_source

    # First of all: a model takes seconds to load.
    output, source = named_file(arguments.output), arguments.data
    check_prediction_place(output, overwrite=arguments.overwrite)
    kind = checked_source(source, kind=arguments.kind, size=arguments.size)
    if os.path.exists(source):
        refuse_output_in_source(Path(source), output)
    with ProgressLine(f"predict: loading the model of {arguments.run}", quiet=arguments.quiet):
        from clicooper_hpc.inference.load_model import load_model_of_run
        from clicooper_hpc.inference.predict_samples import predict_samples

        model = load_model_of_run(
            arguments.run,
            accept=lambda shape: check_source_shape(source, kind, arguments.split, shape),
        )
    summary = predict_samples(
        model,
        arguments.data,
        output,
        kind=arguments.kind,
        split=arguments.split,
        size=arguments.size,
        overwrite=arguments.overwrite,
        quiet=arguments.quiet,
    )
    if summary.other_scale is not None:
        write_error_line(f"clicooper: WARNING: {arguments.data}: {summary.other_scale}")
    labelled = summary.right + summary.wrong
    if arguments.json:
        accuracy = summary.right / labelled if labelled else None
        return print_facts({"output": output, **asdict(summary), "accuracy": accuracy})
    lines = [f"wrote {output}: {summary.rows:,} rows"]
    if labelled:
        accuracy = 100 * summary.right / labelled
        lines.append(f"accuracy {accuracy:.2f} % of {labelled:,} labelled rows")
    if summary.unknown:
        lines.append(f"{summary.unknown:,} rows are labelled with classes the model does not know")
    if summary.unused_columns:
        shown = ", ".join(map(repr, summary.unused_columns[:8]))
        more = len(summary.unused_columns) - 8
        lines.append(f"columns not used: {shown}" + (f" and {more} more" if more > 0 else ""))
    return print_report("\n".join(lines))


PREDICT = Command(
    "predict",
    "classify new samples with the model of a run; for the owner",
    _add_predict_options,
    _predict,
    guarded=True,
)
