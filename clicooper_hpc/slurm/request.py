"""What a job asks of Slurm, and where its files lie: plain values, nothing is written."""

from __future__ import annotations

import math
import os
import re
from dataclasses import dataclass
from pathlib import Path

from clicooper_hpc.config.job import Job
from clicooper_hpc.errors import UsageError

__all__ = ["SlurmRequest", "SubmissionPaths", "slurm_request_of", "submission_paths"]

_MIB_PER_GIB = 1024


@dataclass(frozen=True, slots=True)
class SubmissionPaths:
    """Absolute paths of one submission.

    Parameters
    ----------
    job
        The job file.
    run
        The run folder; of an array the common beginning of all run folders.
    working
        Folder in which the user submitted: relative paths on the command line start there.
    """

    job: Path
    run: Path
    working: Path

    def __post_init__(self) -> None:
        for path in (self.job, self.run, self.working):
            # A line break in a path would end the comment or directive it stands in.
            if not str(path).isprintable():
                raise UsageError(
                    "a path with control characters cannot stand in a script",
                    where=repr(str(path)),
                    remedy="Rename it.",
                )
        # sbatch reads --output with rules of its own, which know no escape for these.
        if re.search(r"[\"'\\]", str(self.run)):
            raise UsageError(
                "a run folder with quotes or backslashes cannot stand in an #SBATCH line",
                where=str(self.run),
                remedy="Choose another folder with -o.",
            )

    @property
    def folder(self) -> Path:
        """Folder of the script and of what Slurm writes, beside the run folder."""
        # Beside, not inside: a run folder must be empty when the run begins.
        return self.run.with_name(f"{self.run.name}.slurm")

    @property
    def script(self) -> Path:
        """The script."""
        return self.folder / "job.sbatch"

    def runs(self, seeds: list[int]) -> list[Path]:
        """Return the run folders of an array over ``seeds``, or the only one."""
        names = [f"{self.run.name}-seed-{seed}" for seed in seeds] or [self.run.name]
        return [self.run.with_name(name) for name in names]


def submission_paths(job: Path, run: Path) -> SubmissionPaths:
    """Return where the job file ``job`` and the run folder ``run`` lie, seen from here.

    Links stay links, also those on the way to this folder: the job finds what they point to when
    it starts, by the names its user knows.
    """
    working, logical = Path.cwd(), Path(os.environ.get("PWD", ""))
    # As `pwd` of a shell: getcwd has followed the links.
    if logical.is_absolute() and ".." not in logical.parts and _is_same(logical, working):
        working = logical
    return SubmissionPaths(_absolute(working, job), _absolute(working, run), working)


def _absolute(working: Path, path: Path) -> Path:
    whole = working / path
    # Behind a link, ".." is the folder above its target: only the file system can tell.
    return Path(os.path.realpath(whole)) if ".." in whole.parts else whole


def _is_same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return False


@dataclass(frozen=True, slots=True)
class SlurmRequest:
    """Sizes of the Slurm job.

    Parameters
    ----------
    segments
        Trainers; one rank more is started, the owner.
    nodes
        Nodes they are spread over.
    cpus
        Cores of each rank.
    threads
        Compute threads of each rank.
    cpu_mib
        Main memory for each core in MiB, ``None`` for the partition's default.
    """

    segments: int
    nodes: int
    cpus: int
    threads: int
    cpu_mib: int | None

    @property
    def ranks(self) -> int:
        """The owner and the trainers."""
        return self.segments + 1

    @property
    def ranks_per_node(self) -> int:
        """Most ranks that one node takes."""
        # Rounded up: the last node may have fewer.
        return -(-self.ranks // self.nodes)


def slurm_request_of(job: Job) -> SlurmRequest:
    """Return what ``job`` asks for.

    Raises
    ------
    UsageError
        The job does not say how many segments it has, or asks for what cannot work.
    """
    segments, slurm = job.wanted_segments(), job.slurm
    if segments is None:
        raise UsageError(
            "the job does not say how many segments it has, and with them how many ranks to start",
            remedy="Set it, for example: --set pipeline.segments=3",
        )
    cpus = job.training.threads if slurm.cpus_per_task is None else slurm.cpus_per_task
    if slurm.nodes > segments + 1:
        raise UsageError(
            f"slurm.nodes = {slurm.nodes}, but the run has only {segments + 1} ranks",
            remedy=f"Ask for at most {segments + 1} nodes.",
        )
    # Checked here, because in the job it would only show as a slow run.
    if cpus < job.training.threads:
        raise UsageError(
            f"slurm.cpus_per_task = {cpus} is less than training.threads = {job.training.threads}",
            remedy="Threads that share a core slow each other down: make them equal.",
        )
    # Sites that give GPUs by --gres or --gpus are asked through slurm.extra.
    asked_otherwise = any("gpu" in line for line in slurm.extra)
    if job.pipeline.device == "cuda" and not slurm.gpus_per_node and not asked_otherwise:
        raise UsageError(
            'pipeline.device = "cuda", but no GPUs are asked for',
            remedy="Set slurm.gpus_per_node.",
        )
    gib = slurm.memory_gib_per_task
    return SlurmRequest(
        segments=segments,
        nodes=slurm.nodes,
        cpus=cpus,
        threads=job.training.threads,
        # Slurm has no option for memory of a task, so what a rank needs is divided among its cores.
        cpu_mib=None if gib is None else math.ceil(gib * _MIB_PER_GIB / cpus),
    )
