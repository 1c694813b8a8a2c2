"""Facts of imagined ranks for the rules of `clicooper doctor`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from clicooper_hpc.doctor.rank_facts import Machine, RankFacts
from clicooper_hpc.runstore.folder_probe import FolderFacts
from clicooper_hpc.runstore.hdf5.probe import Hdf5Facts
from clicooper_hpc.transport.launcher import Launcher

__all__ = ["FOLDER", "HDF5", "MACHINE", "rank_of"]

MACHINE = Machine(
    host="n1",
    cores=tuple(range(8)),
    node_cores=8,
    omp_threads="1",
    gpus=(),
    gpu_memory=None,
    packages={"clicooper": "0.1.0", "torch": "2.13.0"},
    commit="a" * 40,
    hdf5_locking=None,
)
FOLDER = FolderFacts("/scratch/runs", "ext4", 50 * 2**30, writing="")
HDF5 = Hdf5Facts("3.16.0", "2.0.0", False, "this h5py has no parallel HDF5", (), "")
_HYDRA = Launcher("MPICH's mpiexec", "MPICH", 4, 0)


def rank_of(number: int = 0, *, of: int = 4, host: str = "n1", **changes: Any) -> RankFacts:
    """Return rank ``number`` of four healthy ranks, with ``changes`` to it or to its machine."""
    first = number == 0
    facts = RankFacts(
        rank=number,
        size=of,
        launcher=replace(_HYDRA, rank=number),
        library="MPICH 5.0.2",
        library_files=("/env/lib/libmpi.so.12",),
        mpiexec="/env/bin/mpiexec",
        mpi_error="",
        mpi_remedy="",
        machine=replace(MACHINE, host=host),
        folder=FOLDER if first else None,
        hdf5=HDF5 if first else None,
    )
    of_machine = {key: value for key, value in changes.items() if hasattr(MACHINE, key)}
    of_rank = {key: value for key, value in changes.items() if key not in of_machine}
    return replace(facts, machine=replace(facts.machine, **of_machine), **of_rank)
