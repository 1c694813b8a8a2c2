"""Attacks over MPI ranks: steps that succeed on all ranks or end all, and findings brought home.

Rank roles mean nothing here: every rank makes the scene for itself and takes its part of the
cells. Findings travel as the bytes of the file they would be stored in.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable
from typing import NoReturn, TypeVar

import torch

from clicooper_hpc.errors import ClicooperError, ExitCode
from clicooper_hpc.runstore.attacks import AttackRecord, pack_record, unpack_record
from clicooper_hpc.transport.launch import check_world, launcher_size, start_mpi
from clicooper_hpc.transport.world import World

__all__ = [
    "ATTACKS_S",
    "SharedFailure",
    "abort",
    "gather_records",
    "ranks_started",
    "start_ranks",
    "together",
]

_T = TypeVar("_T")

_PREPARE_S = 3600.0
#: Longest wait for the slowest rank's attacks.
ATTACKS_S = 48 * 3600.0
_RECORD_BYTES = 2**31


class SharedFailure(Exception):  # noqa: N818 - not an error of this rank
    """All ranks know of the failure of one, and rank 0 has told it."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


def ranks_started() -> int:
    """Return how many ranks a launcher started; 1 without one, and then MPI is left alone."""
    return launcher_size() or 1


def start_ranks() -> World:
    """Start MPI, and give every rank of a node its own device where there are several."""
    world = start_mpi()
    check_world(world)
    if torch.cuda.is_available():
        torch.cuda.set_device(world.local_rank % torch.cuda.device_count())
    return world


def together(world: World, action: Callable[[], _T], *, deadline_s: float = _PREPARE_S) -> _T:
    """Do ``action`` on this rank and learn whether every rank's went well.

    Raises
    ------
    SharedFailure
        On all ranks, if it failed on one; rank 0 has said why, once.
    """
    code, message = 0, ""
    try:
        result = action()
    except ClicooperError as error:
        code, message = int(error.exit_code), error.line()
    except Exception as error:  # noqa: BLE001 - a bug of ours: told like an error, with its trace
        traceback.print_exc()
        code, message = int(ExitCode.INTERNAL), f"internal error: {error!r}"
    verdict = world.share_verdict(code, message, deadline_s=deadline_s)
    if verdict.code:
        if world.rank == 0:
            _say(verdict.message)
        raise SharedFailure(verdict.code)
    return result


def gather_records(world: World, record: AttackRecord) -> list[AttackRecord] | None:
    """Bring every rank's record to rank 0, in rank order; the others get ``None``."""
    parts = world.gather_bytes(pack_record(record), limit_bytes=_RECORD_BYTES, deadline_s=ATTACKS_S)
    if parts is None:
        return None
    return [
        unpack_record(part, where=f"findings of rank {rank}") for rank, part in enumerate(parts)
    ]


def abort(world: World, error: BaseException) -> NoReturn:
    """Say why, and end every rank."""
    if isinstance(error, SystemExit):
        raise error
    if isinstance(error, ClicooperError):
        _say(error.line())
        world.abort(int(error.exit_code))
    if isinstance(error, KeyboardInterrupt):
        _say("interrupted")
        world.abort(130)
    traceback.print_exception(error)
    _say(f"internal error on rank {world.rank}: {error!r}")
    world.abort(int(ExitCode.INTERNAL))


def _say(message: str) -> None:
    print(f"clicooper: {message}", file=sys.stderr, flush=True)  # noqa: T201
