"""`clicooper init`: a commented job file and the sbatch script that runs it."""

from __future__ import annotations

import argparse
from importlib import resources
from pathlib import Path

from clicooper_hpc.commands.command import Command, add_json_option, print_facts, print_report
from clicooper_hpc.errors import ExitCode, UsageError

__all__ = ["INIT", "init_sbatch_script", "write_init_files"]


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
    # From the package, because an installed clicooper has no slurm/ folder beside it.
    return (resources.files("clicooper_hpc") / "templates" / "job.sbatch").read_text("utf-8")


def write_init_files(folder: Path) -> list[Path]:
    """Write ``job.toml``, its schema and ``job.sbatch`` into ``folder``; never overwrite."""
    from clicooper_hpc.config.job_schema import job_schema_text
    from clicooper_hpc.config.reference import reference_job

    script = init_sbatch_script()
    # The script names the repository's files; the user's copy must name those beside it.
    for stored, here in (
        ("jobs/digits.toml", "job.toml"),
        ("slurm/single-node.sbatch", "job.sbatch"),
    ):
        script = script.replace(stored, here)
    texts = {
        # Editors that know this line check the file and complete its keys.
        folder / "job.toml": f"#:schema job.schema.json\n{reference_job()}",
        folder / "job.sbatch": script,
        folder / "job.schema.json": job_schema_text(),
    }
    # All are looked at before the first is written: never a new file beside an old one.
    for path in texts:
        if path.exists():
            raise UsageError("already exists", where=str(path), remedy="Choose another folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path, text in texts.items():
            path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot be written: {error.strerror}", where=str(folder)) from None
    return list(texts)


INIT = Command("init", "write a commented job file and sbatch script", _add_init_options, _init)
