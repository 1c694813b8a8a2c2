"""The command line: verbs and their options, no logic.

Every verb imports what it needs when it is called, so that `--help` is instant and MPI starts only
in verbs that use it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from clicooper_hpc import __version__
from clicooper_hpc.errors import ClicooperError, ExitCode

__all__ = ["build_parser", "main"]

_Verb = Callable[[argparse.Namespace], int]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb and return its exit code."""
    arguments = build_parser().parse_args(argv)
    verb: _Verb = arguments.verb
    try:
        return int(verb(arguments))
    except ClicooperError as error:
        print(f"clicooper: {error.line()}", file=sys.stderr)
        return int(error.exit_code)
    except BrokenPipeError:
        # The reader of a pipe (head, less) went away: not our error.
        sys.stderr.close()
        return int(ExitCode.DONE)
    except KeyboardInterrupt:
        print("clicooper: interrupted", file=sys.stderr)
        return 130


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all verbs."""
    parser = argparse.ArgumentParser(
        prog="clicooper",
        description="Private, pipelined split training on a cluster.",
        epilog="exit codes: 0 done, 1 internal error or lost peer, 2 job file or usage, "
        "3 privacy budget, 5 environment",
    )
    parser.add_argument("--version", action="version", version=f"clicooper {__version__}")
    verbs = parser.add_subparsers(title="verbs", required=True, metavar="VERB")

    run = _verb(verbs, "run", _run, "train: start with mpirun -n (segments + 1)")
    run.add_argument("job", type=Path, metavar="JOB.toml")
    run.add_argument("-o", "--output", type=Path, metavar="RUN", help="run folder to make")
    run.add_argument("-q", "--quiet", action="store_true", help="only warnings and errors")
    _add_set(run)

    plan = _verb(verbs, "plan", _plan, "show what a run would do; needs no MPI")
    plan.add_argument("job", type=Path, metavar="JOB.toml")
    plan.add_argument("--ranks", type=int, metavar="N", help="ranks: one owner and N-1 trainers")
    _add_set(plan)

    inspect = _verb(verbs, "inspect", _inspect, "summarise a run folder")
    inspect.add_argument("run", type=Path, metavar="RUN")
    inspect.add_argument(
        "--beside",
        type=Path,
        nargs="+",
        default=[],
        metavar="OTHER",
        help="compare with other runs",
    )

    _verb(
        verbs, "doctor", _doctor, "check MPI, ranks, threads, HDF5 and devices; also under mpirun"
    )

    data = verbs.add_parser("data", help="prepare data sets", description="Prepare data sets.")
    kinds = data.add_subparsers(title="data verbs", required=True, metavar="VERB")
    imports = _verb(kinds, "import", _data_import, "turn a public archive into the HDF5 format")
    imports.add_argument("kind", metavar="KIND", help="cifar10, cifar100, idx, folder or npz")
    imports.add_argument("source", type=Path, metavar="PATH")
    imports.add_argument("target", type=Path, metavar="OUT.h5")
    imports.add_argument(
        "--size", type=int, metavar="PIXELS", help="cut and scale images to a square (folder)"
    )
    imports.add_argument("--overwrite", action="store_true", help="replace OUT.h5")

    init = _verb(verbs, "init", _init, "write a commented job file and sbatch script")
    init.add_argument("folder", type=Path, nargs="?", default=Path(), metavar="DIR")
    return parser


def _verb(
    verbs: argparse._SubParsersAction[argparse.ArgumentParser], name: str, call: _Verb, text: str
) -> argparse.ArgumentParser:
    parser = verbs.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
    parser.set_defaults(verb=call)
    return parser


def _add_set(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="SECTION.KEY=VALUE",
        help="override one key of the job file (repeatable)",
    )


def _run(arguments: argparse.Namespace) -> int:
    from clicooper_hpc.session.entry import run_job

    return run_job(
        arguments.job, overrides=arguments.set, output=arguments.output, quiet=arguments.quiet
    )


def _plan(arguments: argparse.Namespace) -> int:
    from clicooper_hpc.config.load import load_job
    from clicooper_hpc.verbs.plan import plan_text

    print(plan_text(load_job(arguments.job, arguments.set), ranks=arguments.ranks))
    return ExitCode.DONE


def _inspect(arguments: argparse.Namespace) -> int:
    from clicooper_hpc.verbs.inspect import inspect_text

    text, code = inspect_text(arguments.run, beside=arguments.beside)
    print(text)
    return code


def _doctor(arguments: argparse.Namespace) -> int:
    from clicooper_hpc.verbs.doctor import examine

    return examine(print)


def _data_import(arguments: argparse.Namespace) -> int:
    from clicooper_hpc.data.importers import import_dataset

    summary = import_dataset(
        arguments.kind,
        arguments.source,
        arguments.target,
        overwrite=arguments.overwrite,
        size=arguments.size,
    )
    rows = ", ".join(f"{count} {split}" for split, count in summary.rows.items())
    shape = "x".join(map(str, summary.row_shape))
    print(
        f"wrote {summary.target}: {rows} rows of {shape} {summary.dtype}, "
        f"{len(summary.class_names)} classes, {summary.file_bytes / 2**20:.1f} MiB"
    )
    return ExitCode.DONE


def _init(arguments: argparse.Namespace) -> int:
    from clicooper_hpc.verbs.init import write_starter

    for path in write_starter(arguments.folder):
        print(f"wrote {path}")
    return ExitCode.DONE
