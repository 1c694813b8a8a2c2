"""Rank 1, then rank 0, lies about a failure; each rank writes what it was told to RANK.json.

Arguments: result folder.
"""

from __future__ import annotations

import json
import struct
import sys
from pathlib import Path

from clicooper_hpc.transport.mpi_library import start_mpi
from clicooper_hpc.transport.world import World

LIMIT = 8192
CODES = (75, 256, -1, 2**31)


def raw(code: int) -> bytes:
    return struct.pack("<I", code & 0xFFFFFFFF)


def agreed(world: World, code: int = 0, message: str = "") -> list[object]:
    found = world.allreduce_failure(code, message, deadline_s=60.0)
    return [found.code, found.message, found.rank]


def lying_trainer(world: World, code: int) -> list[object]:
    if world.rank != 1:
        return agreed(world)
    # The two exchanges of `allreduce_failure`, with bytes of its own; it hears what all hear.
    part = raw(code) + b"no\n\x1b[2Jreason"
    world.gather_bytes(part, limit_bytes=LIMIT, deadline_s=60.0)
    shared = world.broadcast_bytes(None, limit_bytes=LIMIT, deadline_s=60.0)
    found, rank = struct.unpack_from("<ii", shared)
    return [found, shared[8:].decode(), rank]


def lying_owner(world: World, verdict: bytes) -> list[object]:
    if world.rank != 0:
        return agreed(world, 4, "mine") if world.rank == 1 else agreed(world)
    world.gather_bytes(raw(0), limit_bytes=LIMIT, deadline_s=60.0)
    world.broadcast_bytes(verdict, limit_bytes=LIMIT, deadline_s=60.0)
    return []


def main(folder: Path) -> None:
    with start_mpi() as world:
        answers = {f"up {code}": lying_trainer(world, code) for code in (0, 6, 130, *CODES)}
        for code in CODES:
            verdict = raw(code) + raw(-1) + b"all is well"
            answers[f"down {code}"] = lying_owner(world, verdict)
        answers["down well"] = lying_owner(world, raw(0) + raw(-1))
        (folder / f"{world.rank}.json").write_text(json.dumps(answers), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
