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
from clicooper_hpc.config.load_job import load_canonical_job, load_job, reload_job
from clicooper_hpc.errors import ExitCode
from clicooper_hpc.run.agreement import AgreedFailure, agree, end_all
from clicooper_hpc.run.logs import configure_logging
from clicooper_hpc.run.stop_requests import StopRequests
from clicooper_hpc.runstore.run_folder import remove_unstarted_folder
from clicooper_hpc.transport.mpi_library import check_mpi_world, start_mpi
from clicooper_hpc.transport.world import World

__all__ = ["resume_run", "run_job"]

_log = logging.getLogger(__name__)
_STARTUP_S = 600.0


@dataclass(frozen=True, slots=True)
class _Order:
    """What rank 0 found: the job, where it runs, and what an earlier life began with."""

    job: Job
    path: Path
    began: Job | None = None

    def to_bytes(self) -> bytes:
        began = None if self.began is None else self.began.canonical()
        return json.dumps([str(self.path), self.job.folder, self.job.canonical(), began]).encode()

    @classmethod
    def from_bytes(cls, content: bytes) -> _Order:
        path, folder, canonical, began = json.loads(content)
        return cls(
            load_canonical_job(canonical, folder),
            Path(path),
            None if began is None else load_canonical_job(began, folder),
        )


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
        from clicooper_hpc.run.restart import has_begun

        job = load_job(path, overrides)
        job.check_ranks(world.size)
        folder = (output or Path("runs") / path.stem).resolve()
        if resume and has_begun(folder):
            return _found(folder, world, lambda _: job)
        if resume:
            remove_unstarted_folder(folder)
        return _Order(job, folder)

    return _live(find, stops, quiet=quiet)


def resume_run(path: Path, stops: StopRequests, *, overrides: Sequence[str], quiet: bool) -> int:
    """Go on with the run in the folder ``path`` on all ranks; return this rank's exit code.

    ``overrides`` may change how it is carried out (`EXECUTION_KEYS`), nothing else.
    """

    def find(world: World) -> _Order | None:
        return _found(path.resolve(), world, lambda began: reload_job(began, overrides))

    return _live(find, stops, quiet=quiet)


def _found(path: Path, world: World, given: Callable[[Job], Job]) -> _Order | None:
    """Find a run that has begun; ``given`` is told its job and returns what is asked for now."""
    from clicooper_hpc.run.restart import job_to_resume, require_same_job

    path = path.parent if path.name == "run.h5" else path
    began = job_to_resume(path, world.size)
    if began is None:
        _log.info("the run is complete: %s", path)
        return None
    job = given(began)
    require_same_job(job, path)
    return _Order(
        began.with_execution_of(job).model_copy(update={"folder": job.folder}), path, began
    )


def _live(find: Callable[[World], _Order | None], stops: StopRequests, *, quiet: bool) -> int:
    world = start_mpi()
    check_mpi_world(world)
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
        from clicooper_hpc.run.restart import live_again
        from clicooper_hpc.run.start import live

        with world:
            if order.began is None:
                return live(world, order.job, order.path, stops, quiet=quiet)
            began = order.began.digest().hex
            return live_again(world, order.job, order.path, stops, job_digest=began, quiet=quiet)
    except AgreedFailure as failure:
        return failure.code
    except BaseException as error:  # noqa: BLE001 - whatever it is, no other rank may hang
        end_all(world, error)
