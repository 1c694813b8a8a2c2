"""Which launcher started this process, and to which MPI family it belongs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from clicooper_hpc.transport.launch import launcher_size

__all__ = ["Launcher", "library_family", "read_launcher", "without_launcher"]

_RANK_VARIABLES = ("OMPI_COMM_WORLD_RANK", "PMI_RANK", "MV2_COMM_WORLD_RANK", "SLURM_PROCID")
_OF_LAUNCHERS = ("PMI", "HYDI_", "MPI_LOCAL", "OMPI_", "PRTE_", "PALS_", "SLURM_", "MV2_COMM_")
_OF_USERS = "OMPI_ALLOW_RUN_AS_ROOT"


@dataclass(frozen=True, slots=True)
class Launcher:
    """What the environment tells of the launcher.

    Parameters
    ----------
    name
        In words; "" where none is known.
    family
        MPI family whose libraries it can start: "MPICH", "Open MPI", or "" if it starts processes
        without telling them of each other.
    size
        Number of processes it says it started, ``None`` if it does not say.
    rank
        Number of this process among them, ``None`` if it does not say.
    """

    name: str
    family: str
    size: int | None
    rank: int | None


def read_launcher(env: Mapping[str, str]) -> Launcher:
    """Find out from the environment ``env`` who started this process."""
    size = launcher_size(env)
    name, family = _identity(env, size)
    told = next((env[key] for key in _RANK_VARIABLES if env.get(key, "").isdecimal()), None)
    rank = None if size is None or told is None else int(told)
    return Launcher(name, family, size, rank)


def without_launcher(env: Mapping[str, str]) -> dict[str, str]:
    """Return ``env`` for a child that may start MPI but is no rank of this job."""
    return {
        name: value
        for name, value in env.items()
        if name.startswith(_OF_USERS) or not name.startswith(_OF_LAUNCHERS)
    }


def library_family(library: str) -> str:
    """Return "Open MPI", or "MPICH" for MPICH and what is made of it, for a library's name."""
    return "Open MPI" if library.startswith("Open MPI") else "MPICH"


def _identity(env: Mapping[str, str], size: int | None) -> tuple[str, str]:
    if "OMPI_COMM_WORLD_SIZE" in env:
        return "Open MPI's mpirun", "Open MPI"
    if "PMI_SIZE" in env:
        if "SLURM_STEP_ID" in env and "MPI_LOCALNRANKS" not in env:
            return "srun with --mpi=pmi2", "MPICH"
        return "MPICH's mpiexec", "MPICH"
    if "MV2_COMM_WORLD_SIZE" in env:
        return "MVAPICH's mpirun_rsh", "MPICH"
    if size is not None:  # a Slurm step
        return ("srun with --mpi=pmix", "Open MPI") if "PMIX_RANK" in env else ("plain srun", "")
    return "", ""
