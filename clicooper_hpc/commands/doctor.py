"""`clicooper doctor`: its options and the call; alone or on every rank of an MPI job."""

from __future__ import annotations

import argparse
from pathlib import Path

from clicooper_hpc.commands.command import Command, add_json_option, print_report

__all__ = ["DOCTOR"]


def _add_doctor_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        default=Path(),
        metavar="FOLDER",
        help="where runs will be written (default: here)",
    )
    add_json_option(parser)


def _doctor(arguments: argparse.Namespace) -> int:
    from clicooper_hpc.doctor.examine_environment import examine_environment

    # Flushed at once: a rank that ends with exit code 5 may take rank 0 with it.
    return examine_environment(arguments.output, _say, json=arguments.json)


def _say(text: str) -> None:
    print_report(text)


DOCTOR = Command(
    "doctor",
    "check MPI, ranks, threads, folder and HDF5; also under mpirun",
    _add_doctor_options,
    _doctor,
)
