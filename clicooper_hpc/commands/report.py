"""`clicooper report`: its options and the call."""

from __future__ import annotations

import argparse
from pathlib import Path

from clicooper_hpc.commands.command import Command, add_json_option, print_facts, print_report
from clicooper_hpc.errors import EnvironmentUnfitError, UsageError

__all__ = ["REPORT"]

_ENDINGS = (".html", ".htm")
_PAGE = "page of clicooper report"


def _add_report_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=Path, nargs="+", metavar="RUN")
    parser.add_argument(
        "-o",
        "--output",
        default="report.html",
        metavar="PAGE",
        help="HTML file to write; only an earlier page is replaced (default: report.html)",
    )
    parser.add_argument(
        "--attacks",
        action="store_true",
        help="also show what attacks found, from private/: the page is then for the owner alone",
    )
    parser.add_argument(
        "--classes",
        action="store_true",
        help="also show the confusion matrix, from private/: the page is then for the owner alone",
    )
    add_json_option(parser)


def _report(arguments: argparse.Namespace) -> int:
    from clicooper_hpc.data.output_place import named_file
    from clicooper_hpc.report.page import PAGE_MARK, report_page
    from clicooper_hpc.runstore.atomic_files import (
        replace_atomically,
        write_private_atomically,
    )
    from clicooper_hpc.runstore.new_output import check_output_place, refuse_foreign_output

    path = named_file(arguments.output)
    if path.suffix.lower() not in _ENDINGS:
        raise UsageError(
            "is no name of a page", where=str(path), remedy="Give -o a name that ends in .html."
        )
    if not path.parent.is_dir():
        raise UsageError("no such folder", where=str(path.parent), remedy="Make it first.")
    check_output_place(path)
    # Before the page, which takes a while, and after it: others write here meanwhile.
    refuse_foreign_output(path, PAGE_MARK, _PAGE)
    page = report_page(arguments.run, attacks=arguments.attacks, classes=arguments.classes)
    refuse_foreign_output(path, PAGE_MARK, _PAGE)
    try:
        if arguments.attacks or arguments.classes:
            # With the owner's pictures, or names and sizes of classes, in it.
            write_private_atomically(path, page.encode("utf-8"), foreign_folder=True)
        else:
            with replace_atomically(path, foreign_folder=True) as aside:
                aside.write_text(page, encoding="utf-8")
    except OSError as error:
        raise EnvironmentUnfitError(
            f"the page cannot be written ({error.strerror})", where=str(path)
        ) from error
    if arguments.json:
        shown = {"attacks": arguments.attacks, "classes": arguments.classes}
        return print_facts({"page": path, "runs": arguments.run, **shown})
    return print_report(f"wrote {path}")


REPORT = Command(
    "report",
    "write one HTML page about a run, or several",
    _add_report_options,
    _report,
    guarded=True,
)
