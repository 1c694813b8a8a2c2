"""A later life of a run, as all ranks live it: everything is there already and must fit.

Numbered as in `clicooper_hpc.run.start`: (1) the owner prepares from its secrets; (2) contract
to all; (3) network; (4) cuts and keys as they were; (6) sub-labels to all, the same again;
(5) where the run goes on, and files behind that; (7) training; (8) files closed; (9) results.
Nothing here takes anything away: a failure leaves the run as it was.
"""

from __future__ import annotations

import json
import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from clicooper_hpc.config.job import EXECUTION_KEYS, Job
from clicooper_hpc.config.load_job import load_canonical_job
from clicooper_hpc.errors import RunFolderError, UsageError
from clicooper_hpc.pipeline.partition import check_cuts
from clicooper_hpc.run.agreement import agree
from clicooper_hpc.run.build import course_of, layout_of, own_layers
from clicooper_hpc.run.context import RunContext
from clicooper_hpc.run.restart_search import Resumption, agree_on_resumption
from clicooper_hpc.run.signers import agree_on_signers
from clicooper_hpc.run.start import (
    end,
    network_and_device,
    owner_side,
    share_contract,
    share_sub_labels,
)
from clicooper_hpc.run.stop_requests import StopRequests
from clicooper_hpc.run.trainer import make_trainer
from clicooper_hpc.runstore.hdf5.parallel import require_parallel_hdf5
from clicooper_hpc.runstore.private_folder import PrivateFolder
from clicooper_hpc.runstore.reader import Run, open_run
from clicooper_hpc.runstore.run_folder import JOB_FOLDER, RunFolder, lock_run_folder
from clicooper_hpc.runstore.tables.schema import OWNER_TABLES, TRAINER_TABLES
from clicooper_hpc.runstore.tables.shard_writer import ShardWriter
from clicooper_hpc.runstore.tables.single_writer import SingleWriter
from clicooper_hpc.runstore.tables.writer import TableWriter
from clicooper_hpc.transport.world import World

if TYPE_CHECKING:
    from clicooper_hpc.run.owner_setup import OwnerSetup

__all__ = ["has_begun", "job_to_resume", "live_again", "require_same_job"]

_log = logging.getLogger(__name__)

#: What a later life cannot make anew: without them it would be another run, or a second release.
_SECRETS = (
    "master.key",
    "front.json",
    "front.safetensors",
    "front.probe",
    "label-map.safetensors",
    JOB_FOLDER,
)


def has_begun(path: Path) -> bool:
    """Whether a run has begun in the folder ``path``."""
    return RunFolder(path).index.is_file()


def require_same_job(job: Job, path: Path) -> None:
    """Raise unless the run in ``path`` was made from ``job``, but for how it is carried out.

    Raises
    ------
    UsageError
        It was made from another, with the first key that differs.
    """
    stored, given = open_run(path).job, json.loads(job.canonical())
    for section in sorted(stored.keys() | given.keys()):
        then, now = stored.get(section, {}), given.get(section, {})
        for key in sorted(then.keys() | now.keys()):
            if then.get(key) != now.get(key) and key not in EXECUTION_KEYS.get(section, ()):
                raise UsageError(
                    f"the run was begun with {then.get(key)!r}, the job says {now.get(key)!r}",
                    where=f"{section}.{key}",
                    remedy="Change it back, or train anew in another folder, which releases every "
                    "sample a second time.",
                )


def job_to_resume(path: Path, ranks: int) -> Job | None:
    """Return the job of the run in ``path``, None if the run is complete.

    Raises
    ------
    RunFolderError
        There is no run, or its owner's secrets are not there.
    UsageError
        It takes another number of ranks.
    """
    run = open_run(path)
    if run.status == "complete":
        return None
    if ranks != len(run.hosts):
        raise UsageError(
            f"the run has {len(run.hosts)} ranks, but {ranks} were started",
            where=str(run.folder.path),
            remedy=f"Start it with: mpirun -n {len(run.hosts)} clicooper resume {path}",
        )
    missing = [name for name in _SECRETS if not (run.folder.private / name).is_file()]
    if missing:
        raise RunFolderError(
            f"the owner's secrets are not there ({missing[0]} is missing), so the released rows "
            "cannot be made again",
            where=str(run.folder.private),
            remedy="Bring back the private folder of the run; or train anew in another folder, "
            "which releases every sample a second time.",
        )
    home = PrivateFolder(run.folder.private).read_secret(JOB_FOLDER).decode()
    return load_canonical_job(str(run.attrs["resolved_job"]), home)


def live_again(
    world: World, job: Job, path: Path, stops: StopRequests, *, job_digest: str, quiet: bool
) -> int:
    """Go on with the run in ``path``; return the exit code.

    ``job`` is the one it began with, perhaps carried out in another way; ``job_digest`` is the
    digest (hex) of the one it began with.
    """
    startup_s = job.pipeline.startup_timeout_s
    torch.set_num_threads(job.training.threads)
    started = time.monotonic()
    folder = RunFolder(path)

    def opened() -> Run:
        if world.rank == 0:
            lock_run_folder(folder)
            stops.forget(path)
        return open_run(path)

    run = agree(world, opened, deadline_s=startup_s)
    if job.output.record_wire:
        world.tap_into(path / "wire")
    owner = agree(world, lambda: _owner_again(world, job, folder, run), deadline_s=startup_s)  # (1)
    contract = share_contract(world, job, owner)  # (2)
    model, device = agree(  # (3)
        world, lambda: network_and_device(world, job, contract), deadline_s=startup_s
    )
    cuts = check_cuts([int(cut) for cut in run.pipeline["cuts"][1:]], len(model), world.size - 1)
    layout = layout_of(job.cut_at(cuts), model, contract, world.size - 1)  # (4)
    signers = agree_on_signers(world, job, folder, (model, layout), earlier=True)
    sub_labels = share_sub_labels(world, job, contract, owner)  # (6)
    course = course_of(job, contract, sub_labels, world.size - 1)
    found = agree_on_resumption(
        world, run, course, proofs=signers is not None, deadline_s=startup_s
    )

    def fits() -> None:
        if job.output.layout == "single":
            # On every rank, for in the opening all would wait for one that cannot take part.
            require_parallel_hdf5()
        if owner is not None:
            owner.go_on(run, found, signers)

    agree(world, fits, deadline_s=startup_s)
    writer = agree(
        world, lambda: _reopen(world, job, folder, run, found), deadline_s=startup_s
    )  # (5)
    with writer:
        if owner is not None:
            owner.announce()
            _log.info(
                "goes on after %d of %d steps, ready in %.1f s",
                found.step,
                course.total_steps,
                time.monotonic() - started,
            )
        else:
            model = own_layers(model, layout, world.rank - 1)
        run_id = str(run.attrs["run_id"])
        scene = RunContext(
            world,
            job,
            job_digest,
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
            stopped = owner.train(scene, writer, quiet=quiet, started=started, found=found)
        else:
            stopped = make_trainer(scene, writer=writer).run(found.life)
    return end(world, job, folder, owner, stops, stopped)


def _owner_again(world: World, job: Job, folder: RunFolder, run: Run) -> OwnerSetup | None:
    owner = owner_side(world, job, folder)
    if owner is not None:
        owner.fit_to(run)
    return owner


def _reopen(
    world: World,
    job: Job,
    folder: RunFolder,
    run: Run,
    found: Resumption,
) -> TableWriter:
    tables = OWNER_TABLES if world.rank == 0 else TRAINER_TABLES
    if job.output.layout == "single":
        return SingleWriter(
            folder.index,
            tables,
            rank=world.rank,
            communicator=world.comms.job,
            earlier=found.rows,
        )
    attributes: dict[str, str | int | float | bool] = {
        "run_id": str(run.attrs["run_id"]),
        "rank": world.rank,
    }
    return ShardWriter(folder.shard(world.rank), tables, attributes, earlier=found.rows)
