"""What a run was made with: versions, hosts, code."""

from __future__ import annotations

import subprocess
from importlib import metadata
from pathlib import Path

from clicooper_hpc.runstore.hdf5.files import hdf5_version

__all__ = ["git_commit", "versions"]

_LIBRARIES = ("torch", "numpy", "h5py", "mpi4py", "opacus", "cryptography")
_DESCRIBE = ("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")


def versions() -> dict[str, str]:
    """Return the versions of the libraries a run depends on, and of HDF5 itself."""
    found = {name: metadata.version(name) for name in _LIBRARIES}
    return {**found, "hdf5": hdf5_version()}


def git_commit() -> str:
    """Return the commit of the checkout this package lies in, "" for an installed package.

    With "-dirty" behind it where files differ from that commit.
    """
    folder = Path(__file__).resolve().parents[2]
    if not (folder / ".git").exists():
        return ""
    try:
        answer = subprocess.run(
            ["git", "-C", str(folder), *_DESCRIBE],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return answer.stdout.strip()
