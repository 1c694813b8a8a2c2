"""Facts of one rank about itself, as plain values that travel to rank 0 to be judged."""

from __future__ import annotations

import os
import platform
import socket
from dataclasses import dataclass
from pathlib import Path

import torch
from pydantic import TypeAdapter, ValidationError

from clicooper_hpc import __version__
from clicooper_hpc.doctor.gpu_memory import try_gpu_memory
from clicooper_hpc.errors import ClicooperError, PeerError
from clicooper_hpc.run.environment import environment_commit, environment_versions
from clicooper_hpc.runstore.folder_probe import FolderFacts, nearest_probe_folder, probe_folder
from clicooper_hpc.runstore.hdf5.parallel import mapped_mpi_libraries
from clicooper_hpc.runstore.hdf5.probe import Hdf5Facts, probe_hdf5
from clicooper_hpc.transport.launcher import Launcher
from clicooper_hpc.transport.world import World

__all__ = ["FACTS", "Machine", "RankFacts", "collect_facts", "read_rank_facts"]

# What the loader really mapped, whatever paths and variables say.
_MAPPED_FILES = Path("/proc/self/maps")


@dataclass(frozen=True, slots=True)
class Machine:
    """A rank's processor and libraries.

    Parameters
    ----------
    host
        Name of the node.
    cores
        Numbers of the cores the rank may use.
    node_cores
        How many the node has.
    omp_threads
        Value of OMP_NUM_THREADS, ``None`` if it is not set.
    gpus
        Names of the GPUs the rank sees.
    gpu_memory
        "" if MPI takes GPU memory, else why not; ``None`` if that was not tried.
    packages
        Version of every package that matters.
    commit
        Commit of the checkout that is run, "" for an installed package.
    hdf5_locking
        Value of HDF5_USE_FILE_LOCKING.
    """

    host: str
    cores: tuple[int, ...]
    node_cores: int
    omp_threads: str | None
    gpus: tuple[str, ...]
    gpu_memory: str | None
    packages: dict[str, str]
    commit: str
    hdf5_locking: str | None


@dataclass(frozen=True, slots=True)
class RankFacts:
    """All that is known of one rank.

    Parameters
    ----------
    rank, size
        As MPI counts; 0 and 0 where MPI did not start.
    library, library_files
        Name of the MPI library, and the files it was loaded from.
    mpiexec
        Launcher that lies beside the library, "" if none does.
    mpi_error, mpi_remedy
        Why MPI did not start, "" if it did, and what to do.
    folder, hdf5
        Tried by the first rank of each host, ``None`` on the others.
    """

    rank: int
    size: int
    launcher: Launcher
    library: str
    library_files: tuple[str, ...]
    mpiexec: str
    mpi_error: str
    mpi_remedy: str
    machine: Machine
    folder: FolderFacts | None
    hdf5: Hdf5Facts | None


#: Facts to and from JSON; the values that arrive are checked against the types.
FACTS = TypeAdapter(RankFacts)


def read_rank_facts(content: bytes, rank: int) -> RankFacts:
    """Return what ``rank`` sent of itself (`FACTS`); `PeerError` if it is something else."""
    try:
        return FACTS.validate_json(content, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        raise PeerError(
            f"sends facts that cannot be read ({first['msg']})",
            where=f"rank {rank}",
            remedy="Run one clicooper_hpc version on all ranks.",
        ) from None


def _gpu_names() -> tuple[str, ...]:
    """Return the names of the GPUs this process sees."""
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return tuple(torch.cuda.get_device_name(index) for index in range(count))


def _is_first_of_host(world: World) -> bool:
    """Return whether this rank has the lowest number on its host."""
    return world.processors.index(world.processors[world.rank]) == world.rank


def collect_facts(
    launcher: Launcher,
    library: str,
    world: World | None,
    folder: Path,
    error: ClicooperError | None = None,
) -> RankFacts:
    """Look at this rank and, as the first of its host, try out ``folder``."""
    files = tuple(mapped_mpi_libraries(_MAPPED_FILES.read_text(errors="replace")))
    tried = None
    hdf5 = None
    first = world is None or _is_first_of_host(world)
    # Once a host: what a folder can do there does not depend on the rank.
    if first:
        tried = probe_folder(nearest_probe_folder(folder))
        # Without a folder that can be written HDF5 is asked for its build alone.
        hdf5 = probe_hdf5(None if tried.writing else Path(tried.path))
    return RankFacts(
        rank=world.rank if world else 0,
        size=world.size if world else 0,
        launcher=launcher,
        library=library,
        library_files=files,
        mpiexec=_mpiexec_beside(files),
        mpi_error=error.what if error else "",
        mpi_remedy=error.remedy or "" if error else "",
        machine=_machine(world.processors[world.rank] if world else socket.gethostname(), first),
        folder=tried,
        hdf5=hdf5,
    )


def _machine(host: str, first: bool) -> Machine:
    gpus = _gpu_names()
    packages = {
        "clicooper": __version__,
        "Python": platform.python_version(),
        **environment_versions(),
    }
    return Machine(
        host=host,
        # What binding and cgroups leave this process, not what the node has.
        cores=tuple(sorted(os.sched_getaffinity(0))),
        node_cores=os.cpu_count() or 1,
        omp_threads=os.environ.get("OMP_NUM_THREADS"),
        gpus=gpus,
        # In a child process, which takes seconds, so not by every rank.
        gpu_memory=try_gpu_memory() if gpus and first else None,
        packages=packages,
        commit=environment_commit(),
        hdf5_locking=os.environ.get("HDF5_USE_FILE_LOCKING"),
    )


def _mpiexec_beside(files: tuple[str, ...]) -> str:
    """Return the `mpiexec` of the environment a library was loaded from."""
    for file in files:
        beside = Path(file).parent.parent / "bin" / "mpiexec"
        if beside.is_file():
            return str(beside)
    return ""
