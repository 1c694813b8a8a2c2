"""Try out HDF5 as a run uses it: versions, filters, a file read while it is written."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from clicooper_hpc.errors import EnvironmentUnfitError
from clicooper_hpc.runstore.folder_probe import probe_trial_folder
from clicooper_hpc.runstore.hdf5.files import (
    abandon_hdf5_file,
    create_hdf5_file,
    hdf5_error_line,
    open_swmr_file,
)
from clicooper_hpc.runstore.hdf5.parallel import require_parallel_hdf5
from clicooper_hpc.transport.launcher import without_launcher

__all__ = ["Hdf5Facts", "probe_hdf5"]

_LIMIT_S = 120.0
_READER = """
import sys, h5py
with h5py.File(sys.argv[1], "r", swmr=True, locking=False) as file:
    rows = file["x"][:]
    print(rows.size, rows.sum())
"""
_ROWS = np.arange(1000.0)
_FILTERS = {"gzip": h5py.h5z.FILTER_DEFLATE, "fletcher32": h5py.h5z.FILTER_FLETCHER32}


@dataclass(frozen=True, slots=True)
class Hdf5Facts:
    """What this HDF5 can do.

    Parameters
    ----------
    h5py, hdf5
        Versions of the package and of the library in it.
    parallel
        Whether it was built for MPI.
    not_single
        Why `output.layout = "single"` is not to be had; "" if it is.
    missing
        Filters that runs use and the library lacks.
    trial
        "" if a live file could be read while it was written, else the reason; ``None`` if that
        was not tried.
    """

    h5py: str
    hdf5: str
    parallel: bool
    not_single: str
    missing: tuple[str, ...]
    trial: str | None


def probe_hdf5(folder: Path | None) -> Hdf5Facts:
    """Try out HDF5 in ``folder``; ``None``: without a file. Call it when MPI has started."""
    try:
        require_parallel_hdf5()
        not_single = ""
    except EnvironmentUnfitError as error:
        not_single = error.what
    missing = tuple(name for name, code in _FILTERS.items() if not h5py.h5z.filter_avail(code))
    # Without its filters not even a chunk could be written.
    trial = None if folder is None or missing else _probe_live_file(folder)
    return Hdf5Facts(
        h5py.version.version,
        h5py.version.hdf5_version,
        bool(h5py.get_config().mpi),
        not_single,
        missing,
        trial,
    )


def _probe_live_file(folder: Path) -> str:
    try:
        with probe_trial_folder(folder) as name:
            path = Path(name) / "live.h5"
            with create_hdf5_file(path) as new:
                new.create_dataset(
                    "x", (0,), "f8", maxshape=(None,), chunks=(256,), compression=4, fletcher32=True
                )
            return _probe_write_and_read(path)
    except EnvironmentUnfitError as error:
        return error.what
    except (OSError, RuntimeError, ValueError, subprocess.SubprocessError) as error:
        return hdf5_error_line(error)


def _probe_write_and_read(path: Path) -> str:
    file: Any = open_swmr_file(path)
    try:
        rows = file["x"]
        rows.resize(_ROWS.shape)
        rows[:] = _ROWS
        file.flush()
        answer = _probe_read_elsewhere(path)
        file.close()
    except (OSError, RuntimeError, ValueError, subprocess.SubprocessError):
        # Plainly closed, HDF5 would try to write the rest again and may crash at exit.
        abandon_hdf5_file(file)
        raise
    return answer


def _probe_read_elsewhere(path: Path) -> str:
    """Read the live file in another process, for within one HDF5 would not go to the disk."""
    child = subprocess.run(
        [sys.executable, "-c", _READER, str(path)],
        # h5py built for MPI starts MPI; with the launcher's variables it would join this job.
        env=without_launcher(os.environ),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=_LIMIT_S,
        check=False,
    )
    if child.returncode != 0:
        return "reading it live failed: " + (child.stderr.splitlines() or ["no answer"])[-1]
    same = child.stdout.split() == [str(_ROWS.size), str(_ROWS.sum())]
    return "" if same else "a reader sees other values than were written"
