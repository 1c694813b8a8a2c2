"""Submit small jobs the way a user does: `clicooper submit`, then Slurm's own commands."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from slurm_cluster import SlurmCluster, until

from clicooper_hpc.runstore.reader import open_run

__all__ = [
    "JOB",
    "LONG",
    "SAME",
    "assert_readable",
    "segments",
    "setup_in",
    "slowly",
    "submit",
    "until_training",
]

ROOT = Path(__file__).resolve().parents[2]
#: The job of the README; its front lies beside it.
JOB = ROOT / "jobs" / "digits.toml"
#: More epochs than the tests wait for: a job that is still training when it is hit.
LONG = "training.epochs=5000"

#: Two runs of it are equal to the bit: noise follows from a seed, no secret marks the weights.
SAME = (
    'privacy.mode="reproducible-INSECURE"',
    "provenance.marks=off",
    "training.epochs=35",
    "training.average_rows=1",
    "training.evaluate_every_epochs=0",
)

PACED = Path(__file__).parent / "programs" / "paced.py"


def setup_in(environment: Path, *lines: str) -> str:
    """Return the `slurm.setup` of a job that runs in a virtual environment."""
    return f"slurm.setup={json.dumps([f'source {environment}/bin/activate', *lines])}"


def submit(
    slurm: SlurmCluster,
    folder: Path,
    *overrides: str,
    job: Path = JOB,
    launch: str = "slurm.mpi=pmi2",
    setup: str = setup_in(Path(sys.prefix)),
    name: str = "run",
) -> str:
    """Submit ``job`` with two trainers for two epochs into ``folder/name``; return its number."""
    settings: Sequence[str] = [
        setup,
        launch,
        "slurm.time_min=30",
        "pipeline.segments=2",
        "training.epochs=2",
        *overrides,
    ]
    words = [word for setting in settings for word in ("--set", setting)]
    told = slurm.call("clicooper", "submit", str(job), "-o", name, *words, cwd=folder).stdout
    found = re.search(r"^submitted job (\d+):", told, re.MULTILINE)
    assert found is not None, told
    return found[1]


def until_training(slurm: SlurmCluster, job: str, run: Path) -> None:
    """Wait until both trainers of a run have written rows that a reader sees."""

    def trained() -> bool:
        slurm.wait(job, "PENDING", "RUNNING")
        if not (run / "run.h5").exists():
            return False
        opened = open_run(run)
        # The index is made before the shards.
        if opened.missing_ranks:
            return False
        return all(len(opened.table("steps", rank=rank)) > 0 for rank in (1, 2))

    until("the run is training", trained, timeout_s=300, every_s=1)


def assert_readable(path: Path) -> None:
    """Check that a run that was stopped can be read, and does not pass for a complete one."""
    run = open_run(path)
    assert run.status == "incomplete"
    assert run.missing_ranks == ()
    for rank in (1, 2):
        assert len(run.table("steps", rank=rank)) > 0


def slowly(folder: Path, *lines: str) -> str:
    """Return the `slurm.setup` under which a step takes as long on every machine.

    35 epochs of 21 steps last 74 seconds without the start, however fast the cores are. Slurm is
    to warn after thirty, but looks at limits now and then only: up to a minute may pass. ``lines``
    are added.
    """
    program = folder / "bin" / "clicooper"
    program.parent.mkdir()
    program.write_text(f"#!{sys.executable}\n{PACED.read_text()}")
    program.chmod(0o755)
    return setup_in(Path(sys.prefix), f"export PATH={program.parent}:$PATH", *lines)


def segments(run: Path) -> list[bytes]:
    """Return the delivered weights."""
    return [path.read_bytes() for path in sorted((run / "delivery").iterdir())]
