"""What a call of `sbatch` is given as environment, and how its answer is read: plain values."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["SbatchAnswer", "read_sbatch_answer", "sbatch_environment"]

#: Variables by which Slurm's commands find the cluster, its rights and the site's MPI: also inside
#: a job they say nothing of that job.
_OF_SITE = frozenset(
    {
        "SLURM_CONF",
        "SLURM_CONF_SERVER",
        "SLURM_CLUSTERS",
        "SLURM_DEBUG_FLAGS",
        "SLURM_EXIT_ERROR",
        "SLURM_JWT",
        "SLURM_MPI_TYPE",
    }
)
#: What Slurm puts into a job and its steps; ``SRUN_`` a script of ours or others for its `srun`.
_OF_JOB = ("SLURM_", "SLURMD_", "SRUN_")
#: What a rank that `srun` or `mpirun` started has besides, and a program in the new job would take
#: for its own. Not whole prefixes: ``PMIX_MCA_`` and the like are settings of sites.
_OF_RANK = frozenset({"PMI_FD", "PMI_JOBID", "PMI_RANK", "PMI_SIZE", "PMIX_NAMESPACE", "PMIX_RANK"})

#: With --parsable: the number, behind a semicolon the cluster. Wrappers of sites drop the option.
_ANSWER = re.compile(
    r"(?:Submitted batch job )?(?P<number>[0-9]{1,18})"
    r"(?:;(?P<cluster>[^\s;]+)| on cluster (?P<named>\S+))?"
)


@dataclass(frozen=True, slots=True)
class SbatchAnswer:
    """Number and cluster (None: the only one) of a submitted job, and what a wrapper said."""

    number: str
    cluster: str | None
    greeting: tuple[str, ...]


def sbatch_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return ``environment`` without what an outer job has put into it.

    Outside of a job it is as it was: what is set there was set on purpose. ``SBATCH_`` variables
    are a user's or a site's defaults and stay everywhere.
    """
    # `sbatch` hands its environment on, and options of the outer job in it would bind cores or
    # memory of the new one, or contradict its #SBATCH lines.
    if not ({"SLURM_JOB_ID", "SLURM_JOBID"} & environment.keys()):
        return dict(environment)
    return {
        name: value
        for name, value in environment.items()
        if name in _OF_SITE or not (name.startswith(_OF_JOB) or name in _OF_RANK)
    }


def read_sbatch_answer(text: str) -> SbatchAnswer | None:
    """Return what `sbatch --parsable` answered, None if no line of ``text`` is an answer.

    The last line that is one counts: wrappers of sites greet before they call `sbatch`.
    """
    lines = [line.strip() for line in text.splitlines()]
    for place in reversed(range(len(lines))):
        found = _ANSWER.fullmatch(lines[place])
        if found is not None:
            greeting = (line for index, line in enumerate(lines) if line and index != place)
            return SbatchAnswer(
                found["number"], found["cluster"] or found["named"], tuple(greeting)
            )
    return None
