"""Section that says how `clicooper submit` asks Slurm for the run; a run itself never reads it.

The docstring under each key is its text in the generated reference (docs/job-file.md). Values end
up in `#SBATCH` lines, which know no safe quoting, so they are held to the characters that Slurm's
own names are made of.
"""

from __future__ import annotations

import re
import shlex
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from clicooper_hpc.config.section import Section

__all__ = ["SlurmSection"]

#: What sbatch takes for options that have a key of their own, in both spellings.
_OWN_OPTIONS = {
    "--partition": "partition",
    "-p": "partition",
    "--account": "account",
    "-A": "account",
    "--qos": "qos",
    "-q": "qos",
    "--constraint": "constraint",
    "-C": "constraint",
    "--time": "time_min",
    "-t": "time_min",
    "--nodes": "nodes",
    "-N": "nodes",
    "--ntasks": "pipeline.segments",
    "-n": "pipeline.segments",
    "--ntasks-per-node": "nodes",
    "--cpus-per-task": "cpus_per_task",
    "-c": "cpus_per_task",
    "--gpus-per-node": "gpus_per_node",
    "--mem-per-cpu": "memory_gib_per_task",
    "--array": "seeds",
    "-a": "seeds",
    "--requeue": "requeue",
    "--signal": "signal_s",
    "--open-mode": "requeue",
    "--no-requeue": "requeue",
}


def _of(value: str, pattern: str, allowed: str) -> str:
    if re.fullmatch(pattern, value) is None:
        raise ValueError(f"{value!r} may hold only {allowed}")
    return value


def _name(value: str) -> str:
    allowed = "letters, digits and _ . , : @ + / -, and not begin with a sign"
    return _of(value, r"[A-Za-z0-9_][A-Za-z0-9_.,:@+/-]*", allowed)


def _features(value: str) -> str:
    allowed = "letters, digits and _ . , : + - & | * ( ) [ ]"
    return _of(value, r"[A-Za-z0-9_\[(][A-Za-z0-9_.,:+&|*()\[\]-]*", allowed)


def _address(value: str) -> str:
    return _of(value, r"[A-Za-z0-9_.+%-]+@[A-Za-z0-9.-]+", "one mail address")


def _line(value: str) -> str:
    """Keep one text to one line of the script."""
    # A line break would begin a line of the script that was never checked.
    if not value.replace("\t", " ").isprintable():
        raise ValueError(f"{value!r} must be one line without control characters")
    return value


def _sbatch_option(value: str) -> str:
    """Keep one text to one `#SBATCH` line that does not contradict the others."""
    try:
        words = shlex.split(_line(value))
    except ValueError as error:
        raise ValueError(f"{value!r} is no sbatch option: {error}") from None
    if not words or not re.match(r"--?[A-Za-z]", words[0]) or "#" in value:
        raise ValueError(f"{value!r} is no sbatch option such as '--exclusive'")
    for word in words:
        option = word.split("=")[0] if word.startswith("--") else word[:2]
        # Given twice, sbatch takes the last, and the script would start other ranks than it asked
        # for.
        if option in _OWN_OPTIONS:
            key = _OWN_OPTIONS[option]
            name = key if "." in key else f"slurm.{key}"
            raise ValueError(f"{option} has a key of its own, {name}")
    return value


_Name = Annotated[str, AfterValidator(_name)]
_Line = Annotated[str, AfterValidator(_line)]
_Seed = Annotated[int, Field(ge=0, lt=2**62)]


class SlurmSection(Section):
    """How `clicooper submit` asks Slurm for the run.

    It is no part of what is computed: neither the job's digest nor a stored run holds it.
    """

    partition: _Name | None = None
    """Partition, or several with commas. Default: the site's."""

    account: _Name | None = None
    """Account that pays. Default: the user's."""

    qos: _Name | None = None
    """Quality of service. Default: the user's."""

    constraint: Annotated[str, AfterValidator(_features)] | None = None
    """Features the nodes must have, such as `"a100&ib"`."""

    time_min: int = Field(default=60, ge=1)
    """Time limit in minutes of one start. A run that needs longer saves in time, see `signal_s`,
    and goes on in the next."""

    signal_s: int = Field(default=120, ge=10, le=65535)
    """Seconds before the time limit at which the ranks are asked to save and stop. A step and a
    checkpoint must fit; Slurm may ask up to a minute early."""

    nodes: int = Field(default=1, ge=1)
    """Nodes over which the ranks are spread. There is one rank more than the job has segments."""

    cpus_per_task: int | None = Field(default=None, ge=1)
    """Cores of each rank. Default: `training.threads`."""

    gpus_per_node: int = Field(default=0, ge=0)
    """GPUs on each node: one for each trainer there is best, fewer are shared. The owner needs
    none."""

    gpu_type: _Name | None = None
    """Kind of GPU, where the site wants it named, such as `"a100"`."""

    memory_gib_per_task: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """Main memory of each rank. Default: the partition's."""

    mail: Annotated[str, AfterValidator(_address)] | None = None
    """Address that is told when the job ends or fails."""

    requeue: bool = True
    """Let Slurm start the job again after a node failure or preemption, and when the run has saved
    at the time limit: it goes on where it was."""

    max_requeues: int = Field(default=100, ge=1)
    """Starts after which a run that stops at its time limit is not started again."""

    seeds: list[_Seed] = Field(default_factory=list, max_length=1000)
    """A job array: one run for each of these `training.seed`, into RUN-seed-SEED. Every one of them
    releases the samples anew: towards trainers who see several, epsilons add up."""

    seeds_at_once: int | None = Field(default=None, ge=1)
    """At most so many runs of the array at a time. Default: as many as Slurm starts."""

    setup: list[_Line] = Field(default_factory=list)
    """Shell lines that load MPI and the environment, put into the script as they stand: `"module
    load openmpi"`, `"source /path/to/venv/bin/activate"`."""

    program: list[_Line] = Field(default=["clicooper"], min_length=1)
    """Words that start clicooper, such as `["apptainer", "exec", "--nv", "clicooper.sif",
    "clicooper"]`. Nothing in them is expanded by the shell."""

    launcher: Literal["srun", "mpirun"] = "srun"
    """What starts the ranks; it must belong to the MPI library, see docs/slurm.md."""

    launcher_options: list[_Line] = Field(default_factory=list)
    """Further words for the launcher, such as `["--bind-to", "none"]`."""

    mpi: _Name | None = None
    """`srun --mpi`: `"pmix"` for Open MPI, `"pmi2"` for MPICH. Default: the site's. Not used by
    `mpirun`."""

    extra: list[Annotated[str, AfterValidator(_sbatch_option)]] = Field(default_factory=list)
    """Further sbatch options, one `#SBATCH` line each, such as `"--exclusive"`."""

    @model_validator(mode="after")
    def _consistent(self) -> SlurmSection:
        if self.gpu_type is not None and not self.gpus_per_node:
            raise ValueError("slurm.gpu_type needs slurm.gpus_per_node")
        if self.seeds_at_once is not None and not self.seeds:
            raise ValueError("slurm.seeds_at_once needs slurm.seeds")
        # The signal would come before the run has begun, and requeue it for ever.
        if self.signal_s >= 60 * self.time_min:
            raise ValueError("slurm.signal_s must be less than slurm.time_min, which is in minutes")
        # Two tasks of the array would write the same run folder.
        if len(set(self.seeds)) != len(self.seeds):
            raise ValueError("slurm.seeds holds a seed twice")
        return self
