"""lying_code.py WHEN CODE FOLDER ARGUMENTS...: the command line, with a trainer 1 that lies.

It reports a failure with the exit code CODE, which no failing rank may have, once: ``begin``, in
the first step all ranks agree on, or ``end``, when all have trained. Every rank writes what it
ends with to FOLDER/RANK.code.
"""

from __future__ import annotations

import struct
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from clicooper_hpc.cli import main

WHEN, CODE, FOLDER = sys.argv.pop(1), int(sys.argv.pop(1)), Path(sys.argv.pop(1))
LIAR = 1
start: Any = import_module("clicooper_hpc.run.start")
collectives: Any = import_module("clicooper_hpc.transport.collectives")
world: Any = import_module("clicooper_hpc.transport.world")
true_finish, true_allreduce, true_up = (
    start._finish_start,
    world.allreduce_failure,
    collectives._UP,
)
lying = WHEN == "begin"
me = -1


class LyingUp:
    """Puts the lie where the code of this rank belongs."""

    size = true_up.size

    @staticmethod
    def pack(_: int) -> bytes:
        return struct.pack("<I", CODE & 0xFFFFFFFF) + b"all is\nwell\x1b[2J"


def allreduce(inwards: Any, *rest: Any, **options: Any) -> Any:
    global me, lying
    me = inwards.me
    if lying and me == LIAR:
        collectives._UP = LyingUp
    lying = False
    try:
        return true_allreduce(inwards, *rest, **options)
    finally:
        collectives._UP = true_up


def finish(*args: Any) -> Any:
    global lying
    lying = True
    return true_finish(*args)


world.allreduce_failure, start._finish_start = allreduce, finish
code = main()
(FOLDER / f"{me}.code").write_text(str(code))
sys.exit(code)
