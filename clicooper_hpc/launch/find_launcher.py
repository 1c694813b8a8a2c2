"""Which `mpiexec` starts the ranks, and whether this process may start any."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from clicooper_hpc.errors import EnvironmentUnfitError, UsageError
from clicooper_hpc.transport.launcher import read_launcher, without_launcher

__all__ = ["check_no_rank", "environment_of_ranks", "find_mpiexec"]

#: What ranks of one machine want; what the user has set stays.
_DEFAULTS = {
    # Ranks share the cores: one thread each for the libraries that ask the environment.
    "OMP_NUM_THREADS": "1",
    # Open MPI 4 and 5 refuse more ranks than cores; a laptop has few, and other MPIs ignore this.
    "OMPI_MCA_rmaps_base_oversubscribe": "1",
    "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
}


def check_no_rank(env: Mapping[str, str]) -> None:
    """Refuse to start ranks from a process that is itself one of several ranks.

    Raises
    ------
    UsageError
        A launcher started it with others: each of them would train.
    """
    launcher = read_launcher(env)
    if launcher.size is not None and launcher.size > 1:
        raise UsageError(
            f"this process is one of {launcher.size} that {launcher.name} started, and each of "
            "them would train",
            where="train",
            remedy="Start Python without a launcher, train starts its own; or start "
            "`clicooper run` with the launcher.",
        )


def environment_of_ranks(env: Mapping[str, str]) -> dict[str, str]:
    """Return the environment for a launcher whose ranks all run on this machine.

    Without what a launcher or a Slurm step around this process has set: the launcher would take
    itself for a part of it, and inside a step wait for nodes that are in use.
    """
    return {**_DEFAULTS, **without_launcher(env)}


def find_mpiexec(given: str | None = None) -> str:
    """Return the `mpiexec` of this environment: ``given``, that beside Python, or the `PATH`'s.

    Raises
    ------
    EnvironmentUnfitError
        There is none.
    """
    if given is not None:
        found = shutil.which(os.path.expanduser(given))
        if found is None:
            raise EnvironmentUnfitError(
                "there is no such program",
                where=given,
                remedy="Name the mpiexec of the MPI library that `clicooper doctor` shows.",
            )
        return found
    # That of the environment belongs to its library; one on the PATH may belong to another.
    beside = Path(sys.executable).with_name("mpiexec")
    found = str(beside) if os.access(beside, os.X_OK) else shutil.which("mpiexec")
    if found is None:
        raise EnvironmentUnfitError(
            "there is no mpiexec, neither beside Python nor on the PATH",
            where=str(beside.parent),
            remedy="Install the extra mpich (`pip install 'clicooper-hpc[mpich]'`) or load your "
            "site's MPI module.",
        )
    return found
