"""`clicooper data import`: its options and the call."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from clicooper_hpc.commands.command import Command, add_json_option, print_facts, print_report
from clicooper_hpc.errors import ExitCode, UsageError
from clicooper_hpc.progress.progress_line import ProgressLine

if TYPE_CHECKING:
    from clicooper_hpc.data.tables.table_options import TableOptions

__all__ = ["DATA_IMPORT"]


def _add_data_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "kind", metavar="KIND", help="cifar10, cifar100, idx, folder, npz, csv, parquet or arrow"
    )
    parser.add_argument("source", type=Path, metavar="PATH")
    parser.add_argument("target", type=Path, metavar="OUT.h5")
    parser.add_argument(
        "--size", type=int, metavar="PIXELS", help="cut and scale images to a square (folder)"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace OUT.h5")
    parser.add_argument("-q", "--quiet", action="store_true", help="show no progress")
    add_json_option(parser)
    table = parser.add_argument_group("tables (csv, parquet, arrow)")
    table.add_argument("--label", metavar="COLUMN", help="the column with the classes")
    table.add_argument("--split", metavar="COLUMN", help="says train, validation or test")
    table.add_argument("--test", type=Path, metavar="FILE", help="a file with the test rows")
    table.add_argument(
        "--validation", type=Path, metavar="FILE", help="a file with validation rows"
    )
    table.add_argument(
        "--test-share",
        type=float,
        metavar="SHARE",
        help="else: hold out this share of every class (default 0.2)",
    )
    table.add_argument("--seed", type=int, metavar="S", help="which ones (default 0)")
    table.add_argument(
        "--missing",
        action="append",
        default=[],
        metavar="[COLUMN=]POLICY",
        help="cells without a value: refuse (default), drop, mean, category, or a number",
    )
    table.add_argument(
        "--categorical",
        action="append",
        default=[],
        metavar="[COLUMN=]HOW",
        help="categories as one-hot (default) or integer; a column named here has categories",
    )
    table.add_argument(
        "--categories",
        action="append",
        default=[],
        metavar="COLUMN=A,B,...",
        help="all categories of a column (default: those of the training rows)",
    )
    table.add_argument(
        "--leave-out", action="append", default=[], metavar="COLUMN", help="take no feature of it"
    )
    table.add_argument("--delimiter", metavar="SIGN", help="between cells (csv, default ,)")
    table.add_argument("--decimal", metavar="SIGN", help="in numbers (csv, default .)")
    table.add_argument(
        "--null",
        action="append",
        default=[],
        metavar="TEXT",
        help="stands for no value, besides the empty cell, NA, NaN, null (csv)",
    )


def _table_options(arguments: argparse.Namespace) -> TableOptions | None:
    """Return what was said of a table; None if nothing was."""
    from clicooper_hpc.data.tables.table_mapping import CellFormat
    from clicooper_hpc.data.tables.table_options import TableOptions

    names = (
        "label split test validation test_share seed missing categorical categories leave_out "
        "delimiter decimal null"
    )
    given = {name: getattr(arguments, name) for name in names.split()}
    given = {name: value for name, value in given.items() if value not in (None, [])}
    if not given:
        return None
    if "label" not in given:
        raise UsageError(
            "a table needs the name of its column of classes",
            where="data import",
            remedy="Give --label COLUMN",
        )
    plain = CellFormat()
    cells = CellFormat(
        _sign(given.pop("delimiter", plain.delimiter)),
        given.pop("decimal", plain.decimal),
        (*plain.nulls, *given.pop("null", [])),
    )
    for name in ("missing", "categorical"):
        given[name] = _by_column(f"--{name}", given.pop(name, []))
    lists = _by_column("--categories", given.pop("categories", []))
    given["categories"] = {name: text.split(",") for name, text in lists.items()}
    if "" in lists:
        raise UsageError(
            "names no column", where="--categories", remedy="Give COLUMN=A,B,... as one word"
        )
    return TableOptions(cells=cells, **given)


def _by_column(option: str, texts: Sequence[str]) -> dict[str, str]:
    """Split each COLUMN=VALUE at its last sign: names of columns may have one, values have none."""
    found: dict[str, str] = {}
    for text in texts:
        column, _, value = text.rpartition("=")
        if column in found:
            raise UsageError(
                f"says {found[column]!r} and {value!r}" + (f" of column {column!r}" * bool(column)),
                where=option,
                remedy="Give one of them",
            )
        found[column] = value
    return found


def _sign(text: str) -> str:
    # As shells pass on what people type for a tab.
    return "\t" if text in ("\\t", "tab") else text


def _import_data(arguments: argparse.Namespace) -> int:
    from clicooper_hpc.data.importers.import_dataset import import_dataset

    with ProgressLine("samples written:", quiet=arguments.quiet) as progress:
        summary = import_dataset(
            arguments.kind,
            arguments.source,
            arguments.target,
            overwrite=arguments.overwrite,
            size=arguments.size,
            table=_table_options(arguments),
            on_rows=progress.advance,
        )
    if arguments.json:
        return print_facts(asdict(summary))
    rows = ", ".join(f"{count} {split}" for split, count in summary.rows.items())
    shape = "x".join(map(str, summary.row_shape))
    lines = [
        f"wrote {summary.target}: {rows} rows of {shape} {summary.dtype}, "
        f"{len(summary.class_names)} classes, {summary.file_bytes / 2**20:.1f} MiB",
        *(f"  {remark}" for remark in summary.remarks),
    ]
    print_report("\n".join(lines))
    return ExitCode.DONE


DATA_IMPORT = Command(
    "import",
    "turn an archive, a folder or a table into the HDF5 format",
    _add_data_options,
    _import_data,
)
