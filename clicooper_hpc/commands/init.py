"""`clicooper init`: a commented job file and the sbatch script that runs it."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from clicooper_hpc.config.reference import commented_job
from clicooper_hpc.errors import UsageError

__all__ = ["sbatch_template", "write_starter"]


def sbatch_template() -> str:
    """Return the single-node script, the same text as slurm/single-node.sbatch."""
    return (resources.files("clicooper_hpc") / "templates" / "job.sbatch").read_text("utf-8")


def write_starter(folder: Path) -> list[Path]:
    """Write ``job.toml`` and ``job.sbatch`` into ``folder``; never overwrite."""
    script = sbatch_template()
    for stored, here in (
        ("jobs/digits.toml", "job.toml"),
        ("slurm/single-node.sbatch", "job.sbatch"),
    ):
        script = script.replace(stored, here)
    texts = {folder / "job.toml": commented_job(), folder / "job.sbatch": script}
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
