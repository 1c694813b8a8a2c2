"""`clicooper data import`: its options and the call."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

from clicooper_hpc.commands.command import Command, add_json_option, print_facts, print_report
from clicooper_hpc.errors import ExitCode
from clicooper_hpc.progress.progress_line import ProgressLine

__all__ = ["DATA_IMPORT"]


def _add_data_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("kind", metavar="KIND", help="cifar10, cifar100, idx, folder or npz")
    parser.add_argument("source", type=Path, metavar="PATH")
    parser.add_argument("target", type=Path, metavar="OUT.h5")
    parser.add_argument(
        "--size", type=int, metavar="PIXELS", help="cut and scale images to a square (folder)"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace OUT.h5")
    parser.add_argument("-q", "--quiet", action="store_true", help="show no progress")
    add_json_option(parser)


def _import_data(arguments: argparse.Namespace) -> int:
    from clicooper_hpc.data.importers.import_dataset import import_dataset

    with ProgressLine("samples written:", quiet=arguments.quiet) as progress:
        summary = import_dataset(
            arguments.kind,
            arguments.source,
            arguments.target,
            overwrite=arguments.overwrite,
            size=arguments.size,
            on_rows=progress.advance,
        )
    if arguments.json:
        return print_facts(asdict(summary))
    rows = ", ".join(f"{count} {split}" for split, count in summary.rows.items())
    shape = "x".join(map(str, summary.row_shape))
    print_report(
        f"wrote {summary.target}: {rows} rows of {shape} {summary.dtype}, "
        f"{len(summary.class_names)} classes, {summary.file_bytes / 2**20:.1f} MiB"
    )
    return ExitCode.DONE


DATA_IMPORT = Command(
    "import", "turn a public archive into the HDF5 format", _add_data_options, _import_data
)
