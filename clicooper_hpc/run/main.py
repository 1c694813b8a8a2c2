"""Main program of one rank: start MPI, agree on the job, run it, end with the right code.

Until training starts, ranks fail together: each step of the preparation ends in a verdict that all
ranks share, and the first failure is printed once. From then on a rank that fails ends the others
with `World.abort`, after its one line.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from clicooper_hpc.config.job import Job
from clicooper_hpc.config.load_job import load_job, reload_job
from clicooper_hpc.errors import ExitCode
from clicooper_hpc.printable import PrintableFormatter
from clicooper_hpc.run.agreement import AgreedFailure, abort_unagreed, agree
from clicooper_hpc.run.run_request import RunRequest
from clicooper_hpc.run.stop_requests import StopRequests
from clicooper_hpc.runstore.run_folder import remove_unstarted_folder
from clicooper_hpc.standard_streams import write_error_line
from clicooper_hpc.transport.mpi_library import check_mpi_world, start_mpi
from clicooper_hpc.transport.world import World

__all__ = ["resume_run", "run_job"]

_log = logging.getLogger(__name__)
# No job file has been read yet that could set a limit.
_STARTUP_S = 600.0


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

    ``resume``: restart the run in ``output`` if it has begun.
    """
    folder = Path(os.path.realpath(output or Path("runs") / path.stem))

    def find(world: World) -> RunRequest | None:
        job = load_job(path, overrides)
        job.check_ranks(world.size)
        if resume:
            from clicooper_hpc.run.restart_check import can_restart

            if can_restart(folder):
                return _request_restart(folder, world, lambda _: job)
            # A run killed before anything left its owner has no run.h5; its folder is in the way.
            remove_unstarted_folder(folder)
        return RunRequest(job, folder)

    return _run_main(find, stops, quiet=quiet, again=folder if resume else None)


def resume_run(path: Path, stops: StopRequests, *, overrides: Sequence[str], quiet: bool) -> int:
    """Restart the run in the folder ``path`` on all ranks; return this rank's exit code.

    ``overrides`` may change how it is carried out (`EXECUTION_KEYS`), nothing else.
    """
    whole = Path(os.path.realpath(path))

    def find(world: World) -> RunRequest | None:
        return _request_restart(whole, world, lambda began: reload_job(began, overrides))

    return _run_main(find, stops, quiet=quiet, again=whole)


def _request_restart(path: Path, world: World, given: Callable[[Job], Job]) -> RunRequest | None:
    """Return the request to restart the run in ``path``, None if it is complete.

    ``given`` maps the job it began with to what is asked for now.
    """
    from clicooper_hpc.run.restart_check import check_restart_job, job_to_restart

    path = path.parent if path.name == "run.h5" else path
    # The job as it began, for that is what was signed; how it is carried out may have changed.
    began = job_to_restart(path, world.size)
    if began is None:
        _log.info("the run is complete: %s", path)
        return None
    job = given(began)
    check_restart_job(job, path)
    return RunRequest(
        began.with_execution_of(job).model_copy(update={"folder": job.folder}), path, began
    )


def _run_main(
    find: Callable[[World], RunRequest | None],
    stops: StopRequests,
    *,
    quiet: bool,
    again: Path | None,
) -> int:
    """Start MPI, let rank 0 ``find`` what to do, do it; return this rank's exit code.

    ``again``: run folder (or its ``run.h5``) of a run that may be complete; None if a run is begun.
    """
    # Before the job is read: a job file with a mistake must be reported once, which ranks can only
    # agree on over MPI.
    world = start_mpi()
    check_mpi_world(world)
    _configure_logging(world.rank, world.size, quiet=quiet)
    _log.info("all ranks have started; reading the job, loading what trains")
    try:
        # Rank 0 alone reads the job file: other hosts may see another version of it, or none.
        mine = agree(world, lambda: None if world.rank else find(world), deadline_s=_STARTUP_S)
        payload = b"" if mine is None else mine.encode_request()
        shared = world.broadcast_bytes(
            None if world.rank else payload, limit_bytes=2**20, deadline_s=_STARTUP_S
        )
        # Nothing to do is no failure: scripts start a complete run again and expect exit code 0.
        code: int = ExitCode.DONE
        if not shared:
            if world.rank:
                from clicooper_hpc.run.completion import check_nothing_to_do

                # An owner that lies would have a script take an unfinished run for complete.
                check_nothing_to_do(again, world.rank)
        else:
            request = RunRequest.decode_request(shared)
            # Not before: a rank with nothing to do need not load what trains.
            from clicooper_hpc.run.start import train_run

            with world:
                code = train_run(world, request, stops, quiet=quiet)
    except AgreedFailure as failure:
        code = failure.code
    except BaseException as error:  # noqa: BLE001 - whatever it is, no other rank may hang
        abort_unagreed(world, error)
    # All ranks know how it ended: the first of them to go must not change the code of the others.
    stops.ignore_signals()
    return code


class _LogLines(logging.Handler):
    """Writes records as lines of standard error, which a live line makes way for."""

    def emit(self, record: logging.LogRecord) -> None:
        write_error_line(self.format(record))


def _configure_logging(rank: int, size: int, *, quiet: bool) -> None:
    """Send log lines of this package to standard error as ``rank/size role: text``.

    Ranks other than 0 log only warnings: what all ranks do, one of them says.
    """
    role = "owner" if rank == 0 else f"trainer {rank}"
    handler = _LogLines()
    handler.setFormatter(PrintableFormatter(f"{rank}/{size} {role}: %(message)s"))
    logger = logging.getLogger("clicooper_hpc")
    logger.handlers[:] = [handler]
    logger.propagate = False
    logger.setLevel(logging.WARNING if quiet or rank else logging.INFO)
