"""One start of a run on all ranks, fresh or again, from the agreed request to the last file.

Numbered as in the code: (1) the owner prepares; (2) contract to all; (3) every rank builds and cuts
the network; (4) keys to all; (5) files; (6) sub-labels to all: the first thing about samples that
leaves; trainers compare what they were told; (7) training; (8) files closed; (9) results written,
the finished folder verified, last of all the mark of a complete run.

A fresh start and a restart differ in two places, marked FRESH and RESTART. What fails in a fresh
start before (6) has cost no release and leaves no run folder behind. A restart takes nothing away:
a failure leaves the run as it was.
"""

from __future__ import annotations

import logging
import re
import shutil
import time
import uuid
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from clicooper_hpc.config.job import Job
from clicooper_hpc.errors import ExitCode, PeerError
from clicooper_hpc.run.agreement import AgreedFailure, agree, check_told_alike
from clicooper_hpc.run.build import build_own_layers, build_run_plan
from clicooper_hpc.run.context import RunContext
from clicooper_hpc.run.network import RunNetwork, agree_on_network
from clicooper_hpc.run.restart_search import search_restart_point
from clicooper_hpc.run.run_files import open_run_files
from clicooper_hpc.run.run_request import RunRequest
from clicooper_hpc.run.signers import (
    Signers,
    agree_on_signers,
    check_own_note,
    check_recorded_signers,
)
from clicooper_hpc.run.stop_requests import StopRequests
from clicooper_hpc.run.trainer_role import assemble_trainer_role
from clicooper_hpc.runstore.reader import Run, open_run
from clicooper_hpc.runstore.run_folder import RunFolder, create_run_folder, lock_run_folder
from clicooper_hpc.runstore.tables.writer import TableWriter
from clicooper_hpc.training.checkpoint_writer import Stopped
from clicooper_hpc.training.contract import Contract
from clicooper_hpc.training.restart_point import RestartPoint
from clicooper_hpc.transport.world import World

if TYPE_CHECKING:
    from clicooper_hpc.run.owner_setup import OwnerSetup

__all__ = ["train_run"]

_log = logging.getLogger(__name__)
_FROM_OWNER = "message from rank 0 (control)"


@dataclass(frozen=True, slots=True)
class _Preparation:
    """What one rank has after (1) to (4); ``owner`` None on trainers."""

    owner: OwnerSetup | None
    contract: Contract
    network: RunNetwork
    signers: Signers | None


def train_run(world: World, request: RunRequest, stops: StopRequests, *, quiet: bool) -> int:
    """Carry out ``request`` on this rank, from its start or restart; return the exit code.

    Raises
    ------
    AgreedFailure
        The preparation failed on a rank; all ranks know.
    """
    started = time.monotonic()
    startup_s = request.job.pipeline.startup_timeout_s
    torch.set_num_threads(request.job.training.threads)
    run = agree(world, lambda: _start_in_folder(world, request, stops), deadline_s=startup_s)
    if request.job.output.record_wire:
        world.tap_into(request.path / "wire")
    with ExitStack() as files:
        context, owner, point = _begin_start(world, request, stops, run, files)
        if run is not None and owner is not None:
            _log.info(
                "continues after %d of %d steps, ready in %.1f s",
                point.step,
                context.plan.total_steps,
                time.monotonic() - started,
            )
        if owner is not None:  # (7)
            stopped = owner.train_owner(context, point, quiet=quiet, started=started)
        else:
            stopped = assemble_trainer_role(context).run_trainer(point)
    return _finish_start(context, owner, stopped)


def _begin_start(
    world: World, request: RunRequest, stops: StopRequests, run: Run | None, files: ExitStack
) -> tuple[RunContext, OwnerSetup | None, RestartPoint]:
    """Do (1) to (6); ``run``: the one to restart, None for a fresh start.

    The table writer is closed with ``files``.
    """
    job, folder = request.job, RunFolder(request.path)
    point = RestartPoint.at_start()
    try:
        ready = _prepare_start(world, job, folder, run)  # (1) to (4)
        if run is None:
            # FRESH: the files before the sub-labels, so that a folder or disk that does not serve
            # is found while nothing about a sample has left.
            run_id = _share_run_id(world, job)
            # Before the files, which bear the id: a false one would stand in a restart's way.
            _compare_told(world, request, ready, run_id)
            writer = _create_files(world, job, folder, ready, run_id)  # (5)
            files.enter_context(writer)
            _reserve_cost(world, job, ready.owner, run_id)
    except AgreedFailure:
        if run is None and world.rank == 0:
            # The folder shall not stand in the way of the corrected job.
            shutil.rmtree(folder.path, ignore_errors=True)
        raise
    owner, contract, network = ready.owner, ready.contract, ready.network
    if run is None and owner is not None:
        owner.announce_owner_promise()
    if run is not None:
        # RESTART: paid already, unless it was killed before.
        _reserve_cost(world, job, owner, str(run.attrs["run_id"]))
    sub_labels = _share_sub_labels(world, job, contract, owner)  # (6)
    plan = build_run_plan(job, contract, sub_labels, world.size - 1)
    if run is not None:
        # RESTART: the sub-labels first, which left long ago: only with them is the plan known, and
        # with it how many rows of the files are those of finished steps.
        run_id = str(run.attrs["run_id"])
        point = search_restart_point(
            world,
            run,
            plan,
            key=None if ready.signers is None else ready.signers.credentials.identity.public,
            layers=network.layout.layers_of(network.model, world.rank - 1) if world.rank else None,
            deadline_s=job.pipeline.startup_timeout_s,
        )
        _compare_told(world, request, ready, run_id)
        writer = _continue_files(world, job, run, ready, point)  # (5)
        files.enter_context(writer)
        if owner is not None:
            owner.announce_owner_promise()
    check_told_alike(
        world,
        {
            "sub-labels": sub_labels.tobytes(),
            "where the run goes on": repr((point.step, point.proved_step)).encode(),
        },
        deadline_s=job.pipeline.startup_timeout_s,
    )
    model = network.model
    if owner is None:
        # The layers of other segments are let go: this function returns nothing that holds them.
        model = build_own_layers(model, network.layout, world.rank - 1)
    context = RunContext(
        world=world,
        job=job,
        job_digest=request.job_digest,
        folder=folder,
        run_id=run_id,
        contract=contract,
        model=model,
        layout=network.layout,
        plan=plan,
        device=network.device,
        signers=ready.signers,
        stops=stops,
        writer=writer,
    )
    return context, owner, point


def _prepare_start(world: World, job: Job, folder: RunFolder, run: Run | None) -> _Preparation:
    """Do (1) to (4), which send nothing about a sample."""
    owner = agree(
        world,
        lambda: _prepare_owner(world, job, folder, run),
        deadline_s=job.pipeline.startup_timeout_s,
    )  # (1)
    contract = _share_contract(world, job, owner)  # (2)
    cuts = None if run is None else [int(cut) for cut in run.pipeline["cuts"][1:]]
    network = agree_on_network(world, job, contract, cuts)  # (3)
    signers = agree_on_signers(world, job, folder, network, is_restart=run is not None)  # (4)
    return _Preparation(owner, contract, network, signers)


def _reserve_cost(world: World, job: Job, owner: OwnerSetup | None, run_id: str) -> None:
    """Let the owner reserve what the run costs, last of all before anything leaves."""
    agree(
        world,
        lambda: None if owner is None else owner.reserve_cost(run_id),
        deadline_s=job.pipeline.startup_timeout_s,
    )


def _create_files(
    world: World, job: Job, folder: RunFolder, ready: _Preparation, run_id: str
) -> TableWriter:
    """Make the index and the tables of a fresh run."""

    def create_index() -> None:
        if ready.owner is not None:
            ready.owner.index.create_index(world, ready.network, run_id)

    return open_run_files(world, job, folder, run_id=run_id, kept=None, prepare_index=create_index)


def _continue_files(
    world: World, job: Job, run: Run, ready: _Preparation, point: RestartPoint
) -> TableWriter:
    """Open the index and the tables of ``run`` behind ``point``."""

    def continue_index() -> None:
        if ready.owner is not None:
            check_recorded_signers(ready.signers, point)
            ready.owner.index.continue_index(run, point)

    return open_run_files(
        world,
        job,
        run.folder,
        run_id=str(run.attrs["run_id"]),
        kept=point.rows,
        prepare_index=continue_index,
    )


def _start_in_folder(world: World, request: RunRequest, stops: StopRequests) -> Run | None:
    """Take the run folder, which no other start may hold; return the run to restart, or None."""
    folder = RunFolder(request.path)
    if not request.is_restart:
        if world.rank == 0:
            create_run_folder(folder.path)
            lock_run_folder(folder)
            stops.forget_last_stop(folder)
        return None
    if world.rank == 0:
        lock_run_folder(folder)
        stops.forget_last_stop(folder)
    elif request.job.provenance.enabled:
        # Before anything the job names is imported: rank 0 has it from the folder.
        check_own_note(folder, world.rank, request.job_digest)
    return open_run(folder.path)


def _prepare_owner(world: World, job: Job, folder: RunFolder, run: Run | None) -> OwnerSetup | None:
    """Prepare the owner's side; None on trainers."""
    if world.rank:
        return None
    _log.info("preparing data, front, noise and labels")
    # Imported here: trainers need none of the owner's libraries.
    from clicooper_hpc.run.owner_setup import OwnerSetup

    owner = OwnerSetup(job, folder, None if run is None else str(run.attrs["run_id"]))
    if run is not None:
        owner.check_owner_promise(run)
    return owner


def _share_contract(world: World, job: Job, owner: OwnerSetup | None) -> Contract:
    """Send all trainers the sizes of what they will get."""
    payload = None if owner is None else owner.contract.encode_contract()
    return Contract.decode_contract(
        world.broadcast_bytes(payload, limit_bytes=2**16, deadline_s=job.pipeline.startup_timeout_s)
    )


def _share_run_id(world: World, job: Job) -> str:
    """Draw the id of a new run on rank 0 and send it to all."""
    drawn = None if world.rank else uuid.uuid4().hex.encode()
    shared = world.broadcast_bytes(drawn, limit_bytes=64, deadline_s=job.pipeline.startup_timeout_s)
    # It goes into files and signed statements.
    if re.fullmatch(rb"[0-9a-f]{32}", shared) is None:
        raise PeerError("the id of the run is not 32 hexadecimal digits", where=_FROM_OWNER)
    return shared.decode()


def _compare_told(world: World, request: RunRequest, ready: _Preparation, run_id: str) -> None:
    """Let trainers compare what the owner has told each of them in (1) to (4)."""
    keys = () if ready.signers is None else ready.signers.keys
    start = "" if ready.signers is None else ready.signers.start
    told = {
        "job": request.encode_request(),
        "contract": ready.contract.encode_contract(),
        "cuts": repr(ready.network.layout.cuts).encode(),
        "keys": b"".join(key.raw for key in keys),
        "start": start.encode(),
        "id of the run": run_id.encode(),
    }
    check_told_alike(world, told, deadline_s=request.job.pipeline.startup_timeout_s)


def _share_sub_labels(
    world: World, job: Job, contract: Contract, owner: OwnerSetup | None
) -> NDArray[np.int32]:
    """Give all ranks the sub-label of every training sample; charged in the privacy ledger."""
    payload = None
    if owner is not None:
        payload = owner.authorised_sub_labels()
    raw = world.broadcast_bytes(
        payload, limit_bytes=4 * contract.samples, deadline_s=job.pipeline.startup_timeout_s
    )
    if len(raw) != 4 * contract.samples:
        raise PeerError(
            f"the sub-labels have {len(raw)} bytes instead of {4 * contract.samples}",
            where=_FROM_OWNER,
        )
    labels = np.frombuffer(raw, dtype=np.int32)
    outside = (labels < 0) | (labels >= contract.outputs)
    if outside.any():
        raise PeerError(
            f"sample {int(outside.argmax())} has the sub-label {labels[outside][0]}; there are "
            f"{contract.outputs}",
            where=_FROM_OWNER,
        )
    return labels


def _finish_start(context: RunContext, owner: OwnerSetup | None, stopped: Stopped | None) -> int:
    """Meet once more (8), write results (9) or say how to continue; return the exit code."""
    # Results are written once every rank has closed its file: a complete run has whole tables.
    deadline_s = context.job.pipeline.startup_timeout_s
    agree(context.world, lambda: None, deadline_s=deadline_s)  # (8)
    if stopped is not None:
        if owner is not None:
            owner.close_owner_data()
            _log.warning(
                "stopped after %d steps, on request (%s); continue with: clicooper resume %s",
                stopped.step,
                context.stops.reason or "of another rank",
                context.folder.path,
            )
        if stopped.is_saved:
            # Before any rank ends: launchers may kill the others then.
            agree(context.world, lambda: _tell_saved(context, stopped), deadline_s=deadline_s)
            return ExitCode.REQUEUE
        if owner is not None:
            # Not 75: a start after the same time would come no further, again and again.
            _log.error(
                "nothing was saved: the newest checkpoints were damaged, and stages that are "
                "proved already were being trained again; give the next start more time"
            )
        return ExitCode.ENVIRONMENT
    agree(
        context.world,
        lambda: None if owner is None else owner.write_owner_results(context.signers),
        # Trainers wait: a run whose proofs do not hold is done for none of them.
        deadline_s=context.job.pipeline.startup_timeout_s,
    )  # (9)
    return ExitCode.DONE


def _tell_saved(context: RunContext, stopped: Stopped) -> None:
    """Let the owner say in the run folder that all ranks have saved."""
    if context.world.rank == 0:
        context.stops.tell_saved(context.folder, context.run_id, stopped.step)
