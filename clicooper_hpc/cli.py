"""The command line: verbs and their options, no logic.

Every verb imports what it needs when it is called, so that `--help` is instant and MPI starts only
in verbs that use it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from clicooper_hpc import __version__
from clicooper_hpc.commands.attack import add_attack_options, attack
from clicooper_hpc.errors import ClicooperError, ExitCode, no_access

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
    except PermissionError as error:
        unfit = no_access(error)
        print(f"clicooper: {unfit.line()}", file=sys.stderr)
        return int(unfit.exit_code)
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
        "3 privacy budget, 4 verification or audit failed, 5 environment, 75 saved: start again",
    )
    parser.add_argument("--version", action="version", version=f"clicooper {__version__}")
    verbs = parser.add_subparsers(title="verbs", required=True, metavar="VERB")

    run = _verb(verbs, "run", _run, "train: start with mpirun -n (segments + 1)")
    run.add_argument("job", type=Path, metavar="JOB.toml")
    run.add_argument("-o", "--output", type=Path, metavar="RUN", help="run folder to make")
    run.add_argument("--resume", action="store_true", help="go on if the run has begun already")
    run.add_argument("-q", "--quiet", action="store_true", help="only warnings and errors")
    _add_set(run)

    resume = _verb(verbs, "resume", _resume, "go on with a stopped or killed run; as many ranks")
    resume.add_argument("run", type=Path, metavar="RUN")
    resume.add_argument("-q", "--quiet", action="store_true", help="only warnings and errors")
    _add_set(resume)

    plan = _verb(verbs, "plan", _plan, "show what a run would do; needs no MPI")
    plan.add_argument("job", type=Path, metavar="JOB.toml")
    plan.add_argument("--ranks", type=int, metavar="N", help="ranks: one owner and N-1 trainers")
    _add_set(plan)

    submit = _verb(verbs, "submit", _submit, "write the Slurm script of a job and submit it")
    submit.add_argument("job", type=Path, metavar="JOB.toml")
    submit.add_argument("-o", "--output", type=Path, metavar="RUN", help="run folder to make")
    submit.add_argument("--dry-run", action="store_true", help="only show the script")
    _add_set(submit)

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

    verify = _verb(verbs, "verify", _verify, "check the proofs of a run; needs no MPI, no secrets")
    verify.add_argument("run", type=Path, metavar="RUN")
    verify.add_argument("--json", action="store_true", help="machine-readable output")
    verify.add_argument(
        "--export", type=Path, metavar="DIR", help="also write the proofs as plain in-toto files"
    )
    verify.add_argument(
        "--owner-key",
        metavar="KEY",
        help="insist on this owner (hex, as `keys new` prints it, or a public PEM)",
    )
    verify.add_argument(
        "--trainer-keys",
        nargs="+",
        default=[],
        metavar="KEY",
        help="insist on these trainers, in order of their segments",
    )
    verify.add_argument(
        "--mark-key",
        type=Path,
        nargs="+",
        default=[],
        metavar="FILE",
        help="also read these marks (see keys open-mark)",
    )
    verify.add_argument(
        "--segment-file",
        type=Path,
        metavar="FILE",
        help="read the marks from this safetensors file, not from the run's segments",
    )

    audit = _verb(verbs, "audit", _audit, "replay training stages and compare; for the owner")
    audit.add_argument("run", type=Path, metavar="RUN")
    audit.add_argument(
        "--stage", type=int, nargs="+", default=[], metavar="S", help="these, from 0"
    )
    audit.add_argument(
        "--sample",
        type=int,
        metavar="Q",
        help="so many, drawn by the owner's secret and the ledger",
    )
    audit.add_argument("--segment", type=int, metavar="I", help="exit code for this trainer alone")
    audit.add_argument(
        "--tolerance", type=float, metavar="X", help="other hardware: how far states may be apart"
    )
    audit.add_argument("--json", action="store_true", help="machine-readable output")

    add_attack_options(
        _verb(verbs, "attack", attack, "measure what each party can find out; for the owner")
    )

    keys = verbs.add_parser("keys", help="identities and mark keys", description="Make keys.")
    key_verbs = keys.add_subparsers(title="keys verbs", required=True, metavar="VERB")
    new = _verb(key_verbs, "new", _keys_new, "make an Ed25519 identity")
    new.add_argument("file", type=Path, metavar="FILE.pem")
    new.add_argument("--encrypt", action="store_true", help="protect it with a password")
    open_mark = _verb(key_verbs, "open-mark", _keys_open_mark, "show the key of one stage's mark")
    open_mark.add_argument("run", type=Path, metavar="RUN")
    open_mark.add_argument("--segment", type=int, required=True, metavar="I", help="from 1")
    open_mark.add_argument("--stage", type=int, required=True, metavar="S", help="from 0")
    open_mark.add_argument("-o", "--output", type=Path, required=True, metavar="FILE")

    doctor = _verb(
        verbs, "doctor", _doctor, "check MPI, ranks, threads, folder and HDF5; also under mpirun"
    )
    doctor.add_argument(
        "-o",
        "--output",
        type=Path,
        default=Path(),
        metavar="FOLDER",
        help="where runs will be written (default: here)",
    )
    doctor.add_argument("--json", action="store_true", help="machine-readable output")

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
    from clicooper_hpc.run.stop_requests import StopRequests

    stops = StopRequests()  # before the libraries load, which takes seconds
    from clicooper_hpc.run.main import run_job

    return run_job(
        arguments.job,
        stops,
        overrides=arguments.set,
        output=arguments.output,
        resume=arguments.resume,
        quiet=arguments.quiet,
    )


def _resume(arguments: argparse.Namespace) -> int:
    from clicooper_hpc.run.stop_requests import StopRequests

    stops = StopRequests()
    from clicooper_hpc.run.main import resume_run

    return resume_run(arguments.run, stops, overrides=arguments.set, quiet=arguments.quiet)


def _plan(arguments: argparse.Namespace) -> int:
    from clicooper_hpc.commands.plan import plan_text
    from clicooper_hpc.config.load import load_job

    print(plan_text(load_job(arguments.job, arguments.set), ranks=arguments.ranks))
    return ExitCode.DONE


def _submit(arguments: argparse.Namespace) -> int:
    from clicooper_hpc.slurm.submit import submit_job

    print(
        submit_job(
            arguments.job,
            overrides=arguments.set,
            output=arguments.output,
            dry_run=arguments.dry_run,
        )
    )
    return ExitCode.DONE


def _inspect(arguments: argparse.Namespace) -> int:
    from clicooper_hpc.commands.inspect import inspect_text

    text, code = inspect_text(arguments.run, beside=arguments.beside)
    print(text)
    return code


def _verify(arguments: argparse.Namespace) -> int:
    from clicooper_hpc.verification.verification_report import verification_report

    text, code = verification_report(
        arguments.run,
        owner_key=arguments.owner_key,
        trainer_keys=arguments.trainer_keys,
        mark_keys=arguments.mark_key,
        segment_file=arguments.segment_file,
        export=arguments.export,
        as_json=arguments.json,
    )
    print(text)
    return code


def _audit(arguments: argparse.Namespace) -> int:
    from clicooper_hpc.audit.report import audit_run

    text, code = audit_run(
        arguments.run,
        stages=arguments.stage,
        sample=arguments.sample,
        segment=arguments.segment,
        tolerance=arguments.tolerance,
        as_json=arguments.json,
    )
    print(text)
    return code


def _keys_new(arguments: argparse.Namespace) -> int:
    from clicooper_hpc.commands.keys import new_identity

    print(f"{new_identity(arguments.file, encrypt=arguments.encrypt)}  {arguments.file}")
    return ExitCode.DONE


def _keys_open_mark(arguments: argparse.Namespace) -> int:
    from clicooper_hpc.verification.marks.opening import write_mark_opening

    write_mark_opening(
        arguments.run, segment=arguments.segment, stage=arguments.stage, output=arguments.output
    )
    print(f"wrote {arguments.output}: whoever has it can read this mark, and erase it")
    return ExitCode.DONE


def _doctor(arguments: argparse.Namespace) -> int:
    from clicooper_hpc.doctor.report import examine

    return examine(arguments.output, partial(print, flush=True), json=arguments.json)


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
    from clicooper_hpc.commands.init import write_starter

    for path in write_starter(arguments.folder):
        print(f"wrote {path}")
    return ExitCode.DONE
