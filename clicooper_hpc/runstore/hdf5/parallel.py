"""Whether this h5py has parallel HDF5, built for the MPI library in use."""

from __future__ import annotations

import re
from pathlib import Path

import h5py

from clicooper_hpc.errors import EnvironmentUnfitError

__all__ = ["mapped_mpi_libraries", "require_parallel_hdf5"]

_MAPPED_FILES = Path("/proc/self/maps")


def require_parallel_hdf5() -> None:
    """Raise `EnvironmentUnfitError` unless this h5py was built for MPI, and for the one in use.

    The second can only be seen once MPI has started. HDF5 given another library's communicator
    would end the process without a word of ours.
    """
    reason = None
    if not h5py.get_config().mpi:
        reason = "this h5py has no parallel HDF5"
    elif _MAPPED_FILES.is_file():  # Linux
        # Mapped into this process now: HDF5's library may be another than mpi4py's.
        loaded = mapped_mpi_libraries(_MAPPED_FILES.read_text(errors="replace"))
        if len(loaded) > 1:
            reason = f"this h5py was built for another MPI library ({' and '.join(loaded)} loaded)"
    if reason is not None:
        raise EnvironmentUnfitError(
            reason,
            where='output.layout = "single"',
            remedy='Set output.layout = "shards" (same content, same reader), or build h5py '
            "with HDF5_MPI=ON against the MPI library of the job.",
        )


def mapped_mpi_libraries(maps: str) -> list[str]:
    """Return the paths of the MPI libraries in ``maps``, the text of a ``/proc/PID/maps``."""
    return sorted(set(re.findall(r"(/.*/libmpi(?:ch)?\.so[.\d]*)$", maps, re.MULTILINE)))
