"""hostile.py FOLDER RANK LIE -- ARGUMENTS...: the command line, with one rank that misbehaves.

LIE is a name of `hostile_lies`. Whatever happens, every rank leaves what it ended with in
FOLDER/RANK.code (missing if another rank ended it) and the most memory it took, in kB, in
FOLDER/RANK.rss.
"""

from __future__ import annotations

import sys
import threading
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

from hostile_lies import LIES, peak_kb


def note_memory(place: Path, end: threading.Event) -> None:
    """Note it all along, for a rank may be ended at any moment."""
    while True:
        place.write_text(str(peak_kb()))
        if end.wait(0.1):
            return


def main() -> int:
    """Arm the lie on its rank, then run clicooper."""
    folder, liar, lie = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    sys.argv[1:] = sys.argv[5:]
    from clicooper_hpc.cli import main as clicooper

    entry: Any = import_module("clicooper_hpc.run.main")
    world_module: Any = import_module("clicooper_hpc.transport.world")
    start, abort = entry.start_mpi, world_module.abort_ranks
    end = threading.Event()
    me = -1

    def armed() -> Any:
        nonlocal me
        world = start()
        me = world.rank
        place = folder / f"{me}.rss"
        threading.Thread(target=note_memory, args=(place, end), daemon=True).start()
        if me == liar:
            LIES[lie](world)
        return world

    def noted_abort(comm: Any, code: int) -> NoReturn:
        (folder / f"{me}.code").write_text(str(code))
        abort(comm, code)
        raise AssertionError

    entry.start_mpi, world_module.abort_ranks = armed, noted_abort
    try:
        code = clicooper()
    except SystemExit as left:
        code = int(left.code or 0)
    (folder / f"{me}.code").write_text(str(code))
    end.set()
    return code


if __name__ == "__main__":
    sys.exit(main())
