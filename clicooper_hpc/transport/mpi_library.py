"""Load the MPI library, start it, and find out whether it belongs to the launcher.

Importing this module starts nothing: commands that need no MPI work without one.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from types import ModuleType
from typing import TYPE_CHECKING

from clicooper_hpc.errors import EnvironmentUnfitError
from clicooper_hpc.transport.launcher import launcher_local_rank, launcher_size
from clicooper_hpc.transport.world import Comms, World

if TYPE_CHECKING:
    from mpi4py import MPI

__all__ = ["check_mpi_world", "find_mpi_library", "mpi_library_family", "start_mpi"]


def check_mpi_world(world: World, env: Mapping[str, str] | None = None) -> None:
    """Refuse a world of one rank in a process that a launcher started as one of several.

    Raises
    ------
    EnvironmentUnfitError
        If the launcher belongs to another MPI library than the one loaded: every process would
        run the job alone, and some launchers would report success.
    """
    started = launcher_size(env)
    if world.size == 1 and started is not None and started > 1:
        raise EnvironmentUnfitError(
            f"the launcher started {started} processes, but MPI ({world.library}) sees 1",
            remedy="Use the mpiexec of that MPI library, or under Slurm `srun --mpi=pmi2` (MPICH) "
            "or `srun --mpi=pmix` (Open MPI); MPI4PY_LIBMPI=/path/libmpi.so picks another library",
        )


def _no_library(error: Exception) -> EnvironmentUnfitError:
    return EnvironmentUnfitError(
        f"no MPI library can be loaded ({str(error).splitlines()[0]})",
        remedy="Install the extra mpich (`pip install 'clicooper-hpc[mpich]'`) or load your "
        "site's MPI module",
    )


def _load_mpi() -> ModuleType:
    """Load the MPI library without starting it."""
    try:
        import mpi4py

        # By default `import mpi4py.MPI` calls MPI_Init, which a foreign launcher may not survive.
        mpi4py.rc(initialize=False, finalize=True)
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:
        raise _no_library(error) from error
    return MPI


def mpi_library_family(library: str) -> str:
    """Return "Open MPI", or "MPICH" for MPICH and what is made of it, for a library's name."""
    return "Open MPI" if library.startswith("Open MPI") else "MPICH"


def find_mpi_library() -> str:
    """Load the MPI library without starting it; return its name and version, one line.

    Raises
    ------
    EnvironmentUnfitError
        If no MPI library can be loaded.
    """
    return _mpi_library_name(_load_mpi().Get_library_version())


def _start_mpi_library(mpi: ModuleType) -> None:
    if mpi.Is_initialized():
        return
    try:
        with warnings.catch_warnings():
            # "Suspicious execution environment": `check_mpi_world` says the same as an error.
            warnings.simplefilter("ignore", RuntimeWarning)
            # Threads exist (digests, autograd), but only this one calls MPI.
            mpi.Init_thread(mpi.THREAD_FUNNELED)
    except RuntimeError as error:
        raise _no_library(error) from error


def _mpi_library_name(version: str) -> str:
    """Shorten what MPI says of itself to name and version, as in ``MPICH 5.0.2``."""
    first = version.strip("\0 \n").splitlines()[0].split(",")[0]
    return " ".join(first.replace("Version:", " ").split())


def _processor_names(comm: MPI.Intracomm, mpi: ModuleType) -> list[str]:
    """Return every rank's processor name; collective."""
    width = int(mpi.MAX_PROCESSOR_NAME) + 1
    mine = bytearray(mpi.Get_processor_name().encode("utf-8")[:width].ljust(width, b"\0"))
    names = bytearray(width * comm.Get_size())
    # MPI's own collective: ours need a `World`, which is only being made here.
    comm.Allgather(mine, names)
    return [
        names[start : start + width].rstrip(b"\0").decode("utf-8", errors="replace")
        for start in range(0, len(names), width)
    ]


def _cores_per_rank(sharing: int) -> int:
    """Cores for each of ``sharing`` ranks of a node: those it is bound to, or its part of all."""
    allowed = len(os.sched_getaffinity(0))
    # A rank that is bound to some cores has them alone; one that is not shares all of the node.
    bound = allowed < (os.cpu_count() or 1)
    return allowed if bound else max(1, allowed // sharing)


def start_mpi() -> World:
    """Initialise MPI and return this rank's view of it; collective.

    Only the calling thread may use MPI afterwards. Finalisation is left to the interpreter's end.

    Raises
    ------
    EnvironmentUnfitError
        If no MPI library can be loaded.
    """
    mpi = _load_mpi()
    _start_mpi_library(mpi)
    job: MPI.Intracomm = mpi.COMM_WORLD
    job.Set_errhandler(mpi.ERRORS_RETURN)  # mpi4py turns the codes into exceptions
    # A duplicate per direction: messages on one can never match receives on another.
    comms = Comms(job, job.Dup(), job.Dup(), job.Dup())
    # Without a launcher that says it, the ranks that can share memory are those of one node.
    node = job.Split_type(mpi.COMM_TYPE_SHARED)
    named = launcher_local_rank()
    shared, sharing = node.Get_rank(), node.Get_size()
    node.Free()
    return World(
        comms,
        library=_mpi_library_name(mpi.Get_library_version()),
        processors=_processor_names(job, mpi),
        local_rank=shared if named is None else named,
        cores=_cores_per_rank(sharing),
    )
