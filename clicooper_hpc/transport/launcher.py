"""What the environment says of the launcher that started this process, and of its MPI family.

The order in which launchers are asked matters where they are nested: MPICH's ``mpiexec`` in a
Slurm job starts its ranks through ``srun``, so Slurm's variables then describe the helpers of
``mpiexec``, not the ranks.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

__all__ = [
    "Launcher",
    "launcher_local_rank",
    "launcher_rank",
    "launcher_size",
    "read_launcher",
    "without_launcher",
]

_SIZE_VARIABLES = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE")
_LOCAL_RANK_VARIABLES = (
    "OMPI_COMM_WORLD_LOCAL_RANK",
    "MPI_LOCALRANKID",
    "MV2_COMM_WORLD_LOCAL_RANK",
    "PALS_LOCAL_RANKID",
)
_RANK_VARIABLES = (
    "OMPI_COMM_WORLD_RANK",
    "PMI_RANK",
    "MV2_COMM_WORLD_RANK",
    "PMIX_RANK",
    "SLURM_PROCID",
)
_MOST_DIGITS = 9
_OF_LAUNCHERS = ("PMI", "HYDI_", "MPI_LOCAL", "OMPI_", "PRTE_", "PALS_", "SLURM_", "MV2_COMM_")
# Set by users, in containers: a child started without it would refuse to run as root.
_OF_USERS = "OMPI_ALLOW_RUN_AS_ROOT"


@dataclass(frozen=True, slots=True)
class Launcher:
    """What the environment says of the launcher.

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


def _launcher_number(env: Mapping[str, str], name: str) -> int | None:
    value = env.get(name, "")
    return int(value) if _is_number(value) else None


def _is_number(text: str) -> bool:
    # No digits of other scripts, and no more than a number of ranks has.
    return text.isascii() and text.isdecimal() and len(text) <= _MOST_DIGITS


def _slurm_step_size(env: Mapping[str, str]) -> int | None:
    """Return the size of the Slurm step this process is a task of.

    A batch script is no step, though it has ``SLURM_PROCID`` and ``SLURM_NTASKS``: only `srun`
    sets a step id, and MPI sees one rank there by right.
    """
    if "SLURM_PROCID" not in env or "SLURM_STEP_ID" not in env:
        return None
    return _launcher_number(env, "SLURM_STEP_NUM_TASKS") or _launcher_number(env, "SLURM_NTASKS")


def launcher_size(env: Mapping[str, str] | None = None) -> int | None:
    """Return how many ranks the launcher says it started, ``None`` without a launcher.

    Parameters
    ----------
    env
        Environment variables; default: this process's.
    """
    env = os.environ if env is None else env
    for name in _SIZE_VARIABLES:
        size = _launcher_number(env, name)
        if size is not None:
            return size
    return _slurm_step_size(env)


def launcher_local_rank(env: Mapping[str, str] | None = None) -> int | None:
    """Return this rank's number on its node by the launcher, ``None`` if it does not say."""
    env = os.environ if env is None else env
    for name in _LOCAL_RANK_VARIABLES:
        number = _launcher_number(env, name)
        if number is not None:
            return number
    # Under MPICH's mpiexec inside Slurm, SLURM_LOCALID is that of its helper: 0 for every rank.
    if "PMI_SIZE" in env or _slurm_step_size(env) is None:
        return None
    return _launcher_number(env, "SLURM_LOCALID")


def read_launcher(env: Mapping[str, str]) -> Launcher:
    """Find out from the environment ``env`` who started this process."""
    size = launcher_size(env)
    name, family = _launcher_identity(env, size)
    return Launcher(name, family, size, None if size is None else launcher_rank(env))


def launcher_rank(env: Mapping[str, str] | None = None) -> int | None:
    """Return the number of this process among those started with it, ``None`` if nobody says so.

    Of a plain ``prterun`` too, which does not say how many there are. ``env``: see `launcher_size`.
    """
    env = os.environ if env is None else env
    number = next((env[key] for key in _RANK_VARIABLES if _is_number(env.get(key, ""))), None)
    return None if number is None else int(number)


def without_launcher(env: Mapping[str, str]) -> dict[str, str]:
    """Return ``env`` for a child that may start MPI but is no rank of this job."""
    return {
        name: value
        for name, value in env.items()
        if name.startswith(_OF_USERS) or not name.startswith(_OF_LAUNCHERS)
    }


def _launcher_identity(env: Mapping[str, str], size: int | None) -> tuple[str, str]:
    if "OMPI_COMM_WORLD_SIZE" in env:
        return "Open MPI's mpirun", "Open MPI"
    if "PMI_SIZE" in env:
        # Both speak PMI; only mpiexec (Hydra) also tells the number of ranks on the node.
        if "SLURM_STEP_ID" in env and "MPI_LOCALNRANKS" not in env:
            return "srun with --mpi=pmi2", "MPICH"
        return "MPICH's mpiexec", "MPICH"
    if "MV2_COMM_WORLD_SIZE" in env:
        return "MVAPICH's mpirun_rsh", "MPICH"
    if size is not None:  # a Slurm step
        return ("srun with --mpi=pmix", "Open MPI") if "PMIX_RANK" in env else ("plain srun", "")
    return "", ""
