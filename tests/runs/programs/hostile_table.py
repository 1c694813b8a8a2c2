"""hostile_table.py FOLDER: many runs one after the other on the same ranks, a lie in each.

FOLDER/rows.json lists rank, lie and whether the run begins or is resumed. Row N is run in
FOLDER/N, then, if it has begun, again with honest ranks by `clicooper run --resume`; RANK.json
there says how this rank ended each time: its exit code (None: another rank ended it), what it wrote
to standard error, the most memory it took meanwhile besides what it held before, in kB.

To start libraries once for all rows, ranks are not ended by MPI: `World.abort` leaves a file, on
which the other ranks raise `Ended` wherever they are. What MPI's abort does is tested by
`test_hostile_launches.py`.
"""

from __future__ import annotations

import contextlib
import gc
import io
import json
import shutil
import signal
import sys
import threading
import time
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

from hostile_lies import LIES, peak_kb, undo

FOLDER = Path(sys.argv[1])
#: A rank that is not back by then has hung.
_MEET_S = 200.0


class Ended(SystemExit):
    """This rank is ended, by itself (``code``) or by another (None)."""


class Watch:
    """Ends this rank when another one has."""

    def __init__(self) -> None:
        self.folder: Path | None = None
        self._lock = threading.Lock()
        signal.signal(signal.SIGRTMIN + 1, self._end)
        threading.Thread(target=self._look, daemon=True).start()

    def _end(self, number: int, frame: object) -> None:
        if self.folder is not None:
            raise Ended(None)

    def _look(self) -> None:
        main = threading.main_thread().ident
        while True:
            folder = self.folder
            if folder is not None and any(folder.glob("*.ended")):
                signal.pthread_kill(main or 0, signal.SIGRTMIN + 1)
                time.sleep(1.0)
            time.sleep(0.02)


def meet(comm: Any) -> None:
    """Wait for all ranks, without burning a core."""
    request, end = comm.Ibarrier(), time.monotonic() + _MEET_S
    while not request.Test():
        if time.monotonic() > end:
            print("a rank has not come back", file=sys.stderr, flush=True)
            comm.Abort(99)
        time.sleep(0.01)


def run_once(watch: Watch, place: Path, words: list[str], rank: int, lie: str) -> dict[str, Any]:
    """Run the command line on this rank; return how it ended."""
    from clicooper_hpc.cli import main

    entry: Any = import_module("clicooper_hpc.run.main")
    world_module: Any = import_module("clicooper_hpc.transport.world")
    start, abort = entry.start_mpi, world_module.abort_ranks
    place.mkdir(parents=True, exist_ok=True)

    def armed() -> Any:
        world = start()
        if world.rank == rank:
            LIES[lie](world)
        # Not before MPI has been told of every rank: making communicators is collective.
        watch.folder = place
        return world

    def noted_abort(comm: Any, code: int) -> NoReturn:
        watch.folder = None
        (place / f"{comm.Get_rank()}.ended").write_text(str(code))
        raise Ended(code)

    entry.start_mpi, world_module.abort_ranks = armed, noted_abort
    # From now on the most memory is counted anew.
    Path("/proc/self/clear_refs").write_text("5")
    before_kb = peak_kb()
    output, begun = io.StringIO(), time.monotonic()
    code: int | None
    try:
        with contextlib.redirect_stderr(output):
            code = main(words)
    except Ended as ended:
        code = None if ended.code is None else int(ended.code)
    except SystemExit as left:
        code = int(left.code or 0)
    finally:
        watch.folder = None
        undo()
        entry.start_mpi, world_module.abort_ranks = start, abort
    took = time.monotonic() - begun
    gc.collect()
    more_kb = peak_kb() - before_kb
    return {"code": code, "said": output.getvalue(), "more_kb": more_kb, "took_s": took}


def main() -> int:
    """Run all rows."""
    mpi: Any = import_module("mpi4py.MPI")
    comm = mpi.COMM_WORLD
    me = comm.Get_rank()
    start: Any = import_module("clicooper_hpc.run.start")
    # The lock is a process's until it ends, and this one runs all rows.
    start.lock_run_folder = lambda folder: None
    # Raised where Python cannot raise, as in a weak reference's callback: it is raised again.
    sys.unraisablehook = lambda _: None
    watch = Watch()
    job = FOLDER / "job.toml"
    for number, row in enumerate(json.loads((FOLDER / "rows.json").read_text())):
        place = FOLDER / str(number)
        if me == 0 and row["restart"]:
            shutil.copytree(FOLDER / "0" / "run", place / "run")
        meet(comm)
        again = ["run", str(job), "-o", str(place / "run"), "--resume", "-q"]
        first = ["resume", str(place / "run"), "-q"] if row["restart"] else again
        if not row["restart"]:
            first = [word for word in again if word != "--resume"]
        ends = [run_once(watch, place / "first", first, row["rank"], row["lie"])]
        meet(comm)
        # Row 0 is what rows that are resumed begin with. Of a run that never began nothing is left
        # to go on with.
        if number and (place / "run" / "run.h5").is_file():
            ends.append(run_once(watch, place / "again", again, -1, ""))
            meet(comm)
        (place / f"{me}.json").write_text(json.dumps(ends))
    return 0


if __name__ == "__main__":
    sys.exit(main())
