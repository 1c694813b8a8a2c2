"""One rank's life in a run: start MPI, agree on the job, take a role, end with the right code.

Until training starts, ranks fail together: each step of the preparation ends in a verdict that all
ranks share, and the first failure is printed once. From then on a rank that fails ends the others
with `World.abort`, after its one line.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from clicooper_hpc.config.job import Job
from clicooper_hpc.config.load import job_from_canonical, load_job
from clicooper_hpc.errors import ExitCode
from clicooper_hpc.session.agreement import AgreedFailure, agree, end_all
from clicooper_hpc.session.logs import configure_logging
from clicooper_hpc.transport.launch import check_world, start_mpi
from clicooper_hpc.transport.world import World

__all__ = ["run_job"]


def run_job(path: Path, *, overrides: Sequence[str], output: Path | None, quiet: bool) -> int:
    """Run the job file ``path`` on all ranks; return this rank's exit code."""
    world = start_mpi()
    check_world(world)
    configure_logging(world.rank, world.size, quiet=quiet)
    try:
        job, run_path = _agree_on_job(world, path, overrides, output)
        from clicooper_hpc.session.life import live

        with world:
            live(world, job, run_path, quiet=quiet)
    except AgreedFailure as failure:
        return failure.code
    except BaseException as error:  # noqa: BLE001 - whatever it is, no other rank may hang
        end_all(world, error)
    return ExitCode.DONE


def _agree_on_job(
    world: World, path: Path, overrides: Sequence[str], output: Path | None
) -> tuple[Job, Path]:
    """Let rank 0 read the job, so that all ranks run the same one."""
    startup_s = 600.0

    def read() -> tuple[Job, Path] | None:
        if world.rank:
            return None
        job = load_job(path, overrides)
        job.check_ranks(world.size)
        return job, (output or Path("runs") / path.stem).resolve()

    mine = agree(world, read, deadline_s=startup_s)
    text = None
    if mine is not None:
        text = "\n".join([str(mine[1]), mine[0].folder, mine[0].canonical()]).encode()
    shared = world.broadcast_bytes(text, limit_bytes=2**20, deadline_s=startup_s).decode()
    run_path, folder, canonical = shared.split("\n", 2)
    return job_from_canonical(canonical, folder), Path(run_path)
