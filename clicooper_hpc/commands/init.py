"""`clicooper init`: a commented job file that runs, its front, and the sbatch script for both."""

from __future__ import annotations

import argparse
from importlib import resources
from pathlib import Path

from clicooper_hpc.commands.command import Command, add_json_option, print_facts, print_report
from clicooper_hpc.errors import EnvironmentUnfitError, ExitCode, UsageError

__all__ = ["INIT", "init_sbatch_script", "write_init_files"]

#: The same text as jobs/digits.toml.
_STARTER = "starter.toml"


def _add_init_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, nargs="?", default=Path(), metavar="DIR")
    add_json_option(parser)


def _init(arguments: argparse.Namespace) -> int:
    written = write_init_files(arguments.folder)
    if arguments.json:
        return print_facts({"files": written})
    for path in written:
        print_report(f"wrote {path}")
    return ExitCode.DONE


def init_sbatch_script() -> str:
    """Return the single-node script, the same text as slurm/single-node.sbatch."""
    return _template("job.sbatch").decode()


def write_init_files(folder: Path) -> list[Path]:
    """Write ``job.toml``, its schema, the front it names, and ``job.sbatch``; never overwrite.

    The job is that of jobs/digits.toml, with every other key beside it as a comment.
    """
    from clicooper_hpc.config.job_schema import job_schema_text
    from clicooper_hpc.config.reference import reference_job
    from clicooper_hpc.config.toml_text import parse_toml_text

    starter = parse_toml_text(_template(_STARTER).decode(), where=_STARTER)
    front = Path(starter["front"]["weights"])
    script = init_sbatch_script()
    # The script names the repository's files; the user's copy must name those beside it.
    for stored, here in (
        ("jobs/digits.toml", "job.toml"),
        ("slurm/single-node.sbatch", "job.sbatch"),
    ):
        script = script.replace(stored, here)
    # Editors that know this line check the file and complete its keys.
    job = f"#:schema job.schema.json\n{reference_job(starter)}"
    contents = {
        folder / "job.toml": job.encode(),
        folder / front: _template(front.name),
        folder / "job.sbatch": script.encode(),
        folder / "job.schema.json": job_schema_text().encode(),
    }
    # All are looked at before the first is written: never a new file beside an old one.
    for path in contents:
        if path.exists():
            raise UsageError("already exists", where=str(path), remedy="Choose another folder.")
    made: list[Path] = []
    try:
        for path, content in contents.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("xb") as file:
                made.append(path)
                file.write(content)
    except BaseException as error:  # an interrupt too must leave no part of them behind
        for path in made:
            path.unlink(missing_ok=True)
        if not isinstance(error, OSError):
            raise
        raise EnvironmentUnfitError(
            f"the files cannot be written ({error.strerror})",
            where=str(folder),
            remedy="Name a folder on a file system you may write to and that has space.",
        ) from None
    return list(contents)


def _template(name: str) -> bytes:
    # From the package, because an installed clicooper has no jobs/ or slurm/ folder beside it.
    return (resources.files("clicooper_hpc") / "templates" / name).read_bytes()


INIT = Command("init", "write a commented job file and sbatch script", _add_init_options, _init)
