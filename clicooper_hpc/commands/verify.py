"""`clicooper verify`: its options and the call."""

from __future__ import annotations

import argparse
from pathlib import Path

from clicooper_hpc.commands.command import Command, add_json_option, print_report
from clicooper_hpc.errors import UsageError

__all__ = ["VERIFY"]


def _add_verify_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=Path, metavar="RUN", help="folder of a run, or of a pack")
    add_json_option(parser)
    parser.add_argument(
        "--export", type=Path, metavar="DIR", help="also write the proofs as plain in-toto files"
    )
    parser.add_argument(
        "--owner-key",
        metavar="KEY",
        help="insist on this owner (hex, as `keys new` prints it, or a public PEM)",
    )
    parser.add_argument(
        "--trainer-keys",
        nargs="+",
        default=[],
        metavar="KEY",
        help="insist on these trainers, in order of their segments",
    )
    parser.add_argument(
        "--mark-key",
        type=Path,
        nargs="+",
        default=[],
        metavar="FILE",
        help="also read these marks (see keys open-mark)",
    )
    parser.add_argument(
        "--segment-file",
        type=Path,
        metavar="FILE",
        help="read the marks from this safetensors file, not from the run's segments",
    )
    parser.add_argument(
        "--front-run",
        type=Path,
        nargs="+",
        default=[],
        metavar="DIR",
        help="where the run lies that delivered the front, if not where the job says; then the "
        "run behind that one",
    )


def _verify(arguments: argparse.Namespace) -> int:
    from clicooper_hpc.packing.pack_files import is_pack

    if is_pack(arguments.run):
        return _verify_pack(arguments)
    from clicooper_hpc.verification.verification_report import verification_report

    text, code = verification_report(
        arguments.run,
        owner_key=arguments.owner_key,
        trainer_keys=arguments.trainer_keys,
        mark_keys=arguments.mark_key,
        segment_file=arguments.segment_file,
        export=arguments.export,
        front_runs=arguments.front_run,
        as_json=arguments.json,
    )
    return print_report(text, code)


def _verify_pack(arguments: argparse.Namespace) -> int:
    from clicooper_hpc.packing.pack_report import pack_report

    for option in ("export", "mark_key", "segment_file", "front_run"):
        if getattr(arguments, option):
            raise UsageError(
                "is for the folder of a run; this is a pack",
                where=f"--{option.replace('_', '-')}",
                remedy="Leave it out, or ask the owner to do it with the run.",
            )
    text, code = pack_report(
        arguments.run,
        owner_key=arguments.owner_key,
        trainer_keys=arguments.trainer_keys,
        as_json=arguments.json,
    )
    return print_report(text, code)


VERIFY = Command(
    "verify",
    "check the proofs of a run, or a pack; needs no MPI, no secrets",
    _add_verify_options,
    _verify,
    guarded=True,
)
