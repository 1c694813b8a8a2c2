"""Attacks over MPI ranks: starting them, and bringing findings home.

Rank roles mean nothing here: every rank makes the scene for itself and takes its part of the
cells. Findings travel as the bytes of the file they would be stored in.
"""

from __future__ import annotations

import sys

import torch

from clicooper_hpc.runstore.attack_record import (
    AttackRecord,
    pack_attack_record,
    unpack_attack_record,
)
from clicooper_hpc.transport.launcher import launcher_size
from clicooper_hpc.transport.mpi_library import check_mpi_world, start_mpi
from clicooper_hpc.transport.world import World

__all__ = ["ATTACKS_S", "PREPARE_S", "gather_records", "ranks_started", "start_ranks", "tell"]

#: Longest wait for the slowest rank's scene.
PREPARE_S = 3600.0
#: Longest wait for the slowest rank's attacks.
ATTACKS_S = 48 * 3600.0
_RECORD_BYTES = 2**31


def ranks_started() -> int:
    """Return how many ranks a launcher started; 1 without one, and then MPI is left alone."""
    return launcher_size() or 1


def start_ranks() -> World:
    """Start MPI, and give every rank of a node its own device where there are several."""
    world = start_mpi()
    check_mpi_world(world)
    if torch.cuda.is_available():
        torch.cuda.set_device(world.local_rank % torch.cuda.device_count())
    return world


def gather_records(world: World, record: AttackRecord) -> list[AttackRecord] | None:
    """Bring every rank's record to rank 0, in rank order; the others get ``None``."""
    parts = world.gather_bytes(
        pack_attack_record(record), limit_bytes=_RECORD_BYTES, deadline_s=ATTACKS_S
    )
    if parts is None:
        return None
    return [
        unpack_attack_record(part, where=f"findings of rank {rank}")
        for rank, part in enumerate(parts)
    ]


def tell(rank: int, size: int, message: str) -> None:
    """Print one line to standard error; ranks have no roles here."""
    del rank, size
    print(f"clicooper: {message}", file=sys.stderr, flush=True)  # noqa: T201
