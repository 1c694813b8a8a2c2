"""One rank's life in a run: start MPI, agree on the job, take a role, end with the right code.

Until training starts, ranks fail together: each step of the preparation ends in a verdict that all
ranks share, and the first failure is printed once. From then on a rank that fails ends the others
with `World.abort`, after its one line.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from clicooper_hpc.config.job import Job
from clicooper_hpc.config.load import job_from_canonical, load_job
from clicooper_hpc.errors import ExitCode
from clicooper_hpc.runstore.folder import clear_unbegun
from clicooper_hpc.session.agreement import AgreedFailure, agree, end_all
from clicooper_hpc.session.logs import configure_logging
from clicooper_hpc.session.stopping import StopRequests
from clicooper_hpc.transport.launch import check_world, start_mpi
from clicooper_hpc.transport.world import World

__all__ = ["resume_run", "run_job"]

_log = logging.getLogger(__name__)
_STARTUP_S = 600.0


@dataclass(frozen=True, slots=True)
class _Order:
    """What rank 0 found: the job, where it runs, whether it has run before."""

    job: Job
    path: Path
    again: bool

    def to_bytes(self) -> bytes:
        return json.dumps(
            [str(self.path), self.job.folder, self.job.canonical(), self.again]
        ).encode()

    @classmethod
    def from_bytes(cls, content: bytes) -> _Order:
        path, folder, canonical, again = json.loads(content)
        return cls(job_from_canonical(canonical, folder), Path(path), again)


def run_job(
    path: Path,
    stops: StopRequests,
    *,
    overrides: Sequence[str],
    output: Path | None,
    resume: bool,
    quiet: bool,
) -> int:
    """Run the job file ``path`` on all ranks; return this rank's exit code.

    ``resume``: go on with the run in ``output`` if it has begun.
    """

    def find(world: World) -> _Order | None:
        from clicooper_hpc.session.later_life import has_begun, same_job

        job = load_job(path, overrides)
        job.check_ranks(world.size)
        folder = (output or Path("runs") / path.stem).resolve()
        if resume and has_begun(folder):
            return _found(folder, world, same_job(job, folder))
        if resume:
            clear_unbegun(folder)
        return _Order(job, folder, again=False)

    return _live(find, stops, quiet=quiet)


def resume_run(path: Path, stops: StopRequests, *, quiet: bool) -> int:
    """Go on with the run in the folder ``path`` on all ranks; return this rank's exit code."""
    return _live(lambda world: _found(path.resolve(), world, None), stops, quiet=quiet)


def _found(path: Path, world: World, folder: str | None) -> _Order | None:
    from clicooper_hpc.session.later_life import job_to_resume

    path = path.parent if path.name == "run.h5" else path
    job = job_to_resume(path, world.size)
    if job is None:
        _log.info("the run is complete: %s", path)
        return None
    if folder is not None:
        job = job.model_copy(update={"folder": folder})
    return _Order(job, path, again=True)


def _live(find: Callable[[World], _Order | None], stops: StopRequests, *, quiet: bool) -> int:
    world = start_mpi()
    check_world(world)
    configure_logging(world.rank, world.size, quiet=quiet)
    try:
        mine = agree(world, lambda: None if world.rank else find(world), deadline_s=_STARTUP_S)
        told = b"" if mine is None else mine.to_bytes()
        shared = world.broadcast_bytes(
            None if world.rank else told, limit_bytes=2**20, deadline_s=_STARTUP_S
        )
        if not shared:
            return ExitCode.DONE
        order = _Order.from_bytes(shared)
        from clicooper_hpc.session.later_life import live_again
        from clicooper_hpc.session.life import live

        begin = live_again if order.again else live
        with world:
            return begin(world, order.job, order.path, stops, quiet=quiet)
    except AgreedFailure as failure:
        return failure.code
    except BaseException as error:  # noqa: BLE001 - whatever it is, no other rank may hang
        end_all(world, error)
