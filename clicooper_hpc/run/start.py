"""A run from the agreed job to the last file, as all ranks live it.

Numbered as in the code: (1) the owner prepares; (2) contract to all; (3) every rank builds the
network; (4) cuts and keys to all; (5) a last look for mistakes, and files; (6) sub-labels to all:
the first thing about samples that leaves; (7) training; (8) files closed; (9) results written,
last of all the mark of a complete run. What fails before (6) leaves no run folder behind.
"""

from __future__ import annotations

import json
import logging
import shutil
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from clicooper_hpc.config.job import Job
from clicooper_hpc.errors import ExitCode, PeerError
from clicooper_hpc.pipeline.device import choose_device
from clicooper_hpc.pipeline.layout import Layout, measured_costs
from clicooper_hpc.pipeline.partition import check_cuts
from clicooper_hpc.pipeline.schedule import check_depth
from clicooper_hpc.run.agreement import AgreedFailure, agree
from clicooper_hpc.run.build import course_of, layout_of, network_of, own_layers
from clicooper_hpc.run.context import RunContext
from clicooper_hpc.run.signers import agree_on_signers
from clicooper_hpc.run.stop_requests import StopRequests
from clicooper_hpc.run.trainer import make_trainer
from clicooper_hpc.runstore.hdf5.parallel import require_parallel_hdf5
from clicooper_hpc.runstore.run_folder import RunFolder, create_run_folder, lock_run_folder
from clicooper_hpc.runstore.tables.schema import OWNER_TABLES, TRAINER_TABLES
from clicooper_hpc.runstore.tables.shard_writer import ShardWriter
from clicooper_hpc.runstore.tables.single_writer import SingleWriter
from clicooper_hpc.runstore.tables.writer import TableWriter
from clicooper_hpc.training.checkpoint import Stopped
from clicooper_hpc.training.contract import Contract
from clicooper_hpc.transport.world import World

if TYPE_CHECKING:
    from clicooper_hpc.run.owner_setup import OwnerSetup

__all__ = [
    "end",
    "live",
    "network_and_device",
    "owner_side",
    "share_contract",
    "share_sub_labels",
]

_log = logging.getLogger(__name__)


def live(world: World, job: Job, path: Path, stops: StopRequests, *, quiet: bool) -> int:
    """Run ``job`` into the new run folder ``path``; return the exit code."""
    startup_s = job.pipeline.startup_timeout_s
    torch.set_num_threads(job.training.threads)
    started = time.monotonic()
    folder = RunFolder(path)

    def made() -> None:
        if world.rank == 0:
            create_run_folder(path)
            lock_run_folder(folder)

    agree(world, made, deadline_s=startup_s)
    if job.output.record_wire:
        world.tap_into(path / "wire")
    owner: OwnerSetup | None = None
    try:
        owner = agree(world, lambda: owner_side(world, job, folder), deadline_s=startup_s)  # (1)
        contract = share_contract(world, job, owner)  # (2)
        model, device = agree(  # (3)
            world, lambda: network_and_device(world, job, contract), deadline_s=startup_s
        )
        layout = _agree_on_layout(world, job, model, contract, device)  # (4)
        signers = agree_on_signers(world, job, folder, (model, layout))
        run_id = world.broadcast_bytes(
            None if world.rank else uuid.uuid4().hex.encode(), limit_bytes=64, deadline_s=startup_s
        ).decode()
        writer = _open_files(world, job, folder, owner, (model, layout), run_id)  # (5)
    except AgreedFailure:
        if world.rank == 0:
            # The folder shall not stand in the way of the corrected job.
            shutil.rmtree(path, ignore_errors=True)
        raise
    with writer:
        if owner is not None:
            owner.announce()
        else:
            model = own_layers(model, layout, world.rank - 1)
        sub_labels = share_sub_labels(world, job, contract, owner)  # (6)
        course = course_of(job, contract, sub_labels, world.size - 1)
        scene = RunContext(
            world,
            job,
            job.digest().hex,
            folder,
            run_id,
            contract,
            model,
            layout,
            course,
            device,
            signers,
            stops,
        )
        if owner is not None:  # (7)
            stopped = owner.train(scene, writer, quiet=quiet, started=started)
        else:
            stopped = make_trainer(scene, writer=writer).run()
    return end(world, job, folder, owner, stops, stopped)


def end(
    world: World,
    job: Job,
    folder: RunFolder,
    owner: OwnerSetup | None,
    stops: StopRequests,
    stopped: Stopped | None,
) -> int:
    """Meet once more (8), write results (9) or say how to go on; return the exit code."""
    agree(world, lambda: None, deadline_s=job.pipeline.startup_timeout_s)  # (8)
    if stopped is not None:
        if owner is not None:
            owner.close()
            _log.warning(
                "stopped after %d steps, on request (%s); go on with: clicooper resume %s",
                stopped.step,
                stops.reason or "of another rank",
                folder.path,
            )
        if stopped.is_saved:
            return ExitCode.REQUEUE
        if owner is not None:
            # Not 75: a start after the same time would come no further, again and again.
            _log.error(
                "nothing was saved: the newest checkpoints were damaged, and stages that are "
                "proved already were being trained again; give the next start more time"
            )
        return ExitCode.ENVIRONMENT
    if owner is not None:
        owner.write_results(folder)  # (9)
    return ExitCode.DONE


def share_contract(world: World, job: Job, owner: OwnerSetup | None) -> Contract:
    """Tell all trainers the sizes of what they will get."""
    payload = None if owner is None else owner.contract.to_bytes()
    return Contract.from_bytes(
        world.broadcast_bytes(payload, limit_bytes=2**16, deadline_s=job.pipeline.startup_timeout_s)
    )


def owner_side(world: World, job: Job, folder: RunFolder) -> OwnerSetup | None:
    """Prepare the owner's side; None on trainers."""
    if world.rank:
        return None
    # Imported here: trainers need none of the owner's libraries.
    from clicooper_hpc.run.owner_setup import OwnerSetup

    return OwnerSetup(job, folder)


def network_and_device(
    world: World, job: Job, contract: Contract
) -> tuple[nn.Sequential, torch.device]:
    """Return the whole network with its initial weights, and where this rank computes."""
    check_depth(world.size - 1, job.pipeline.micro_batches)
    # The owner has little compute and no GPU: it only ever evaluates on the CPU.
    wish = "cpu" if world.rank == 0 else job.pipeline.device
    return network_of(job, contract), choose_device(wish, world.local_rank)


def _agree_on_layout(
    world: World, job: Job, model: nn.Sequential, contract: Contract, device: torch.device
) -> Layout:
    """Let the owner cut the network, by what the trainers measured if the job says so."""
    startup_s = job.pipeline.startup_timeout_s
    costs: NDArray[np.float64] | None = None
    if job.pipeline.partition == "auto":

        def measure() -> bytes:
            if world.rank == 0:
                return b""
            rows = -(-job.training.batch_size // job.pipeline.micro_batches)
            return measured_costs(model, contract.release_shape, rows=rows, device=device).tobytes()

        mine = agree(world, measure, deadline_s=startup_s)
        parts = world.gather_bytes(mine, limit_bytes=8 * len(model), deadline_s=startup_s)
        if parts is not None:
            costs = np.stack([np.frombuffer(part, dtype=np.float64) for part in parts[1:]])

    def cut() -> Layout | None:
        if world.rank:
            return None
        return layout_of(job, model, contract, world.size - 1, costs)

    layout = agree(world, cut, deadline_s=startup_s)
    payload = None if layout is None else json.dumps(layout.cuts).encode()
    shared = json.loads(world.broadcast_bytes(payload, limit_bytes=2**16, deadline_s=startup_s))
    cuts = check_cuts(shared, len(model), world.size - 1)
    return layout_of(job.cut_at(cuts), model, contract, world.size - 1)


def share_sub_labels(
    world: World, job: Job, contract: Contract, owner: OwnerSetup | None
) -> NDArray[np.int32]:
    """Give all ranks the sub-label of every training sample; the ledger is asked first."""
    payload = None
    if owner is not None:
        payload = owner.authorised_sub_labels()
    raw = world.broadcast_bytes(
        payload, limit_bytes=4 * contract.samples, deadline_s=job.pipeline.startup_timeout_s
    )
    labels = np.frombuffer(raw, dtype=np.int32)
    inside = labels.size == contract.samples and labels.min() >= 0
    if not inside or labels.max() >= contract.outputs:
        raise PeerError("the sub-labels do not fit the contract", where="message from rank 0")
    return labels


def _open_files(
    world: World,
    job: Job,
    folder: RunFolder,
    owner: OwnerSetup | None,
    network: tuple[nn.Sequential, Layout],
    run_id: str,
) -> TableWriter:
    startup_s = job.pipeline.startup_timeout_s
    tables = {0: OWNER_TABLES, **dict.fromkeys(range(1, world.size), TRAINER_TABLES)}

    def index() -> None:
        if job.output.layout == "single":
            # On every rank, for in the opening all would wait for one that cannot take part.
            require_parallel_hdf5()
        if owner is not None:
            owner.create_index(world, folder, network, run_id, tables)

    def own() -> TableWriter:
        mine = tables[world.rank]
        if job.output.layout == "single":
            return SingleWriter(folder.index, mine, rank=world.rank, communicator=world.comms.job)
        attributes: dict[str, str | int | float | bool] = {"run_id": run_id, "rank": world.rank}
        return ShardWriter(folder.shard(world.rank), mine, attributes)

    agree(world, index, deadline_s=startup_s)
    return agree(world, own, deadline_s=startup_s)
