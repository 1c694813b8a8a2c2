"""`clicooper doctor`: is this machine, and this launch, fit for a run? What to change if not."""

from __future__ import annotations

import os
import platform
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import h5py
import torch

from clicooper_hpc import __version__
from clicooper_hpc.errors import ClicooperError, EnvironmentUnfitError, ExitCode
from clicooper_hpc.runstore.single import require_parallel_hdf5
from clicooper_hpc.session.environment import versions
from clicooper_hpc.transport.launch import check_world, launcher_size, start_mpi
from clicooper_hpc.transport.selftest import self_test
from clicooper_hpc.transport.world import World

__all__ = ["Finding", "examine"]

_SELF_TEST_S = 60.0


@dataclass(frozen=True, slots=True)
class Finding:
    """One line: what was looked at, what was found, and what to do about it if it is bad."""

    name: str
    text: str
    bad: bool = False

    def line(self) -> str:
        """Return the finding as the user sees it."""
        return f"{'!!' if self.bad else 'ok'}  {self.name:<14} {self.text}"


def examine(say: Callable[[str], None]) -> int:
    """Examine the environment of every rank; rank 0 tells. Exit code 5 if a rank is unfit."""
    findings = [_packages(), _threads(), _folder(Path.cwd()), _devices()]
    try:
        world = start_mpi()
        check_world(world)
    except ClicooperError as error:
        findings += [_hdf5(), Finding("mpi", error.line(), bad=True)]
        _tell(findings, say)
        return ExitCode.ENVIRONMENT
    findings.append(_hdf5())  # after MPI, whose library must be the one h5py was built for
    with world:
        bad = [finding.line() for finding in findings if finding.bad]
        others = world.gather_bytes(
            "\n".join(bad).encode(), limit_bytes=2**16, deadline_s=_SELF_TEST_S
        )
        mpi = _mpi(world)
        if others is not None:
            _tell(findings + mpi, say)
            for rank, lines in enumerate(others):
                if rank and lines:
                    say(f"rank {rank} on {world.processors[rank]}:\n{lines.decode()}")
        anywhere = world.broadcast_bytes(
            None if others is None else (b"bad" if any(others) else b""),
            limit_bytes=8,
            deadline_s=_SELF_TEST_S,
        )
    return ExitCode.ENVIRONMENT if anywhere else ExitCode.DONE


def _tell(findings: list[Finding], say: Callable[[str], None]) -> None:
    for finding in findings:
        say(finding.line())


def _packages() -> Finding:
    found = ", ".join(f"{name} {version}" for name, version in versions().items())
    return Finding(
        "packages", f"clicooper {__version__}, Python {platform.python_version()}, {found}"
    )


def _threads() -> Finding:
    cores = len(os.sched_getaffinity(0))
    wish = os.environ.get("OMP_NUM_THREADS")
    ranks = launcher_size() or 1
    text = (
        f"{cores} cores for this rank, OMP_NUM_THREADS {wish or 'not set'}, {ranks} ranks started"
    )
    if ranks > 1 and wish is None:
        return Finding("threads", f"{text}: set OMP_NUM_THREADS=1, or ranks slow each other", True)
    return Finding("threads", text)


def _hdf5() -> Finding:
    try:
        require_parallel_hdf5()
        layouts = "shards and single"
    except EnvironmentUnfitError as error:
        layouts = f"shards (not single: {error.what})"
    return Finding("hdf5", f"HDF5 {h5py.version.hdf5_version}, output.layout: {layouts}")


def _folder(folder: Path) -> Finding:
    """Try what a run does to its folder: private files, atomic rename, HDF5."""
    try:
        with tempfile.TemporaryDirectory(dir=folder, prefix=".clicooper-doctor-") as name:
            place = Path(name)
            secret = place / "secret"
            descriptor = os.open(secret, os.O_WRONLY | os.O_CREAT, 0o600)
            os.close(descriptor)
            if secret.stat().st_mode & 0o077:
                return Finding(
                    "folder", f"{folder} keeps no access rights: secrets would be readable", True
                )
            (place / "a").write_bytes(b"new")
            (place / "b").write_bytes(b"old")
            (place / "a").replace(place / "b")
            with h5py.File(place / "x.h5", "w", libver="v110", locking=False) as file:
                file["x"] = 1
    except OSError as error:
        return Finding("folder", f"{folder} cannot hold a run: {error}", True)
    return Finding("folder", f"{folder}: private files, atomic rename and HDF5 work")


def _devices() -> Finding:
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    names = ", ".join(torch.cuda.get_device_name(index) for index in range(count))
    return Finding(
        "devices", f"{count} GPUs ({names})" if count else "no GPU: trainers use the CPU"
    )


def _mpi(world: World) -> list[Finding]:
    hosts = len(set(world.processors))
    found = [
        Finding("mpi", f"{world.library}; {world.size} ranks on {hosts} hosts"),
    ]
    if world.size == 1:
        found.append(
            Finding("messages", "not tested: start with mpirun -n 2 clicooper doctor to test links")
        )
        return found
    test = self_test(world, deadline_s=_SELF_TEST_S)
    for hop in test.hops:
        size = f"{hop.payload_bytes / 1024:g} KiB"
        text = f"rank {hop.source} to {hop.target}, {size}: {hop.microseconds:.0f} us one way"
        found.append(Finding("messages", text))
    return found
