"""The environment of a run: versions, code, and what the bits of a result depend on."""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from clicooper_hpc.runstore.hdf5.files import hdf5_version

if TYPE_CHECKING:
    import torch

    from clicooper_hpc.transport.world import World

__all__ = ["environment_commit", "environment_versions", "replay_environment"]

_LIBRARIES = ("torch", "numpy", "h5py", "mpi4py", "opacus", "cryptography")
_DESCRIBE = ("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")


def environment_versions() -> dict[str, str]:
    """Return the versions of the libraries a run depends on, and of HDF5 itself."""
    found = {name: metadata.version(name) for name in _LIBRARIES}
    return {**found, "hdf5": hdf5_version()}


def environment_commit() -> str:
    """Return the commit of the checkout this package lies in, "" for an installed package.

    With "-dirty" behind it where files differ from that commit.
    """
    # Of the checkout this file lies in, whatever folder the run was started from.
    folder = Path(__file__).resolve().parents[2]
    if not (folder / ".git").exists():
        return ""
    try:
        answer = subprocess.run(
            ["git", "-C", str(folder), *_DESCRIBE],
            capture_output=True,
            text=True,
            errors="replace",
            # A file system that hangs must not hold up a run for the sake of a version.
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return answer.stdout.strip()


def replay_environment(world: World, device: torch.device) -> Mapping[str, str]:
    """Return what a replay to the bit would have to match on this rank."""
    # Imported here: `clicooper doctor` asks for versions before torch and MPI may be loaded.
    from clicooper_hpc.training.replay_conditions import replay_conditions

    return {
        **replay_conditions(device),
        **{f"{library}-version": version for library, version in environment_versions().items()},
        "host": world.processors[world.rank],
        "mpi": world.library[:200],
        "python-version": platform.python_version(),
    }
